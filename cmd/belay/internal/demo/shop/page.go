// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package shop

import (
	"bytes"
	"crypto/rand"
	"embed"
	"html/template"
	"io/fs"
	"net/http"
)

//go:embed assets
var files embed.FS

var pageTemplate = template.Must(template.New("page.html").ParseFS(files, "assets/page.html"))

// Item is something the shop sells.
type Item struct {
	Name, Title, Text string
}

// Items is the catalogue.
func Items() []Item {
	return []Item{
		{"rope", "Rope", "60 m, dry treated"},
		{"carabiner", "Carabiner", "screw gate, 24 kN"},
		{"harness", "Harness", "four gear loops"},
		{"helmet", "Helmet", "light, well aired"},
		{"shoes", "Shoes", "tight, of course"},
		{"chalk", "Chalk", "300 g, loose"},
	}
}

func find(name string) (Item, bool) {
	for _, it := range Items() {
		if it.Name == name {
			return it, true
		}
	}
	return Item{}, false
}

// line is one row of the page: an item and how many are in the cart.
type line struct {
	Item
	Qty int
	// Key guards the plain form against being sent twice.
	Key string
}

type pageData struct {
	State
	Lines []line
	Count int
}

func (a *App) home(w http.ResponseWriter, r *http.Request) {
	s, ok := a.session(w, r)
	if !ok {
		return
	}
	d := pageData{State: a.state(s)}
	for _, it := range Items() {
		n := d.Cart[it.Name]
		d.Count += n
		d.Lines = append(d.Lines, line{it, n, rand.Text()})
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, d); err != nil {
		http.Error(w, "the page: "+err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'")
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(b.Bytes())
}

func assets() http.Handler {
	sub, err := fs.Sub(files, "assets")
	if err != nil {
		panic("shop: embedded files: " + err.Error())
	}
	h := http.StripPrefix("/assets/", http.FileServerFS(sub))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-cache")
		h.ServeHTTP(w, r)
	})
}
