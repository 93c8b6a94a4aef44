// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package shop_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/belay-ha/belay/cmd/belay/internal/demo/shop"
	"github.com/belay-ha/belay/internal/wire"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
)

// browser is a client of one node.
type browser struct {
	t      *testing.T
	url    string
	client *http.Client
}

func open(t *testing.T) *browser {
	t.Helper()
	store, err := memstore.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := session.New(store, &session.Options{Cookie: shop.Cookie()})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(shop.New(m, "app7"))
	t.Cleanup(srv.Close)
	jar, _ := cookiejar.New(nil)
	return &browser{t, srv.URL, &http.Client{Jar: jar}}
}

func (b *browser) send(method, path string, h http.Header, form url.Values) (*http.Response, string) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	if h != nil {
		req.Header = h.Clone()
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := b.client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	if got := res.Header.Get(shop.HeaderNode); got != "app7" {
		b.t.Errorf("%s %s: answered by %q", method, path, got)
	}
	return res, string(body)
}

// api sends a request as a program does.
func (b *browser) api(method, path, key string, form url.Values) shop.State {
	b.t.Helper()
	h := http.Header{"Accept": {"application/json"}}
	if key != "" {
		h.Set("Idempotency-Key", key)
	}
	res, body := b.send(method, path, h, form)
	if res.StatusCode != http.StatusOK {
		b.t.Fatalf("%s %s: %s: %s", method, path, res.Status, body)
	}
	var st shop.State
	if err := json.Unmarshal([]byte(body), &st); err != nil {
		b.t.Fatal(err)
	}
	return st
}

func name(s string) url.Values { return url.Values{"name": {s}} }
func qty(s string) url.Values  { return url.Values{"qty": {s}} }

func TestVisit(t *testing.T) {
	b := open(t)
	if st := b.api("GET", "/api/state", "", nil); st.User != "" || len(st.Cart) != 0 || st.Version != 0 {
		t.Errorf("a new visitor has %+v", st)
	}
	b.api("POST", "/cart/rope", "k1", nil)
	if st := b.api("POST", "/login", "", name("ann")); st.User != "ann" || st.Cart["rope"] != 1 || st.Version != 2 {
		t.Errorf("after log-in: %+v", st)
	}
	b.api("PUT", "/cart/chalk", "", qty("4"))
	b.api("DELETE", "/cart/rope", "", nil)
	b.api("PUT", "/note", "", url.Values{"note": {"hello"}})
	b.api("POST", "/visit", "", nil)
	st := b.api("GET", "/api/state", "", nil)
	if len(st.Cart) != 1 || st.Cart["chalk"] != 4 || st.Note != "hello" || st.Visits != 1 || st.Version != 6 {
		t.Errorf("after the visit: %+v", st)
	}
	if st := b.api("POST", "/login", "", name("bob")); st.User != "bob" || len(st.Cart) != 0 || st.Note != "" || st.Visits != 0 {
		t.Errorf("another user got %+v", st)
	}
	b.api("POST", "/logout", "", nil)
	if st := b.api("GET", "/api/state", "", nil); st.User != "" || len(st.Cart) != 0 || st.Version != 0 {
		t.Errorf("after log-out: %+v", st)
	}
}

func TestAddTakesEffectOncePerKey(t *testing.T) {
	b := open(t)
	for _, tc := range []struct {
		item, key string
		want      int
	}{{"rope", "a", 1}, {"rope", "a", 1}, {"rope", "b", 2}, {"chalk", "a", 1}, {"rope", "", 3}, {"rope", "", 4}} {
		if st := b.api("POST", "/cart/"+tc.item, tc.key, nil); st.Cart[tc.item] != tc.want {
			t.Errorf("%s with key %q: %d in the cart, want %d", tc.item, tc.key, st.Cart[tc.item], tc.want)
		}
	}
}

// TestPageWorksWithoutScript: a browser that only knows forms.
func TestPageWorksWithoutScript(t *testing.T) {
	b := open(t)
	page := func(path string, form url.Values) string {
		t.Helper()
		method := "POST"
		if form == nil {
			method = "GET"
		}
		res, body := b.send(method, path, nil, form)
		if res.StatusCode != http.StatusOK || res.Request.URL.Path != "/" {
			t.Fatalf("%s: %s at %s", path, res.Status, res.Request.URL.Path)
		}
		return body
	}
	for want, body := range map[string]string{
		"Log in":            page("/", nil),
		"Hello, &lt;b&gt;x": page("/login", name("<b>x")),
		`value="1" aria`:    page("/cart/rope", url.Values{"key": {"k"}}),
		`value="5" aria`:    page("/cart/rope", url.Values{"_method": {"put"}, "qty": {"5"}}),
		`value="a note"`:    page("/note", url.Values{"note": {"a note"}}),
		"app7":              page("/visit", url.Values{"x": {""}}),
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in the page", want)
		}
	}
	if body := page("/cart/rope", url.Values{"_method": {"delete"}}); strings.Contains(body, "Remove Rope") {
		t.Error("the rope is still in the cart")
	}
	if body := page("/logout", url.Values{"x": {""}}); !strings.Contains(body, "Log in") {
		t.Error("not logged out")
	}
}

func TestRefusals(t *testing.T) {
	b := open(t)
	for what, tc := range map[string]struct {
		method, path string
		form         url.Values
		want         int
	}{
		"no_name":          {"POST", "/login", name(" "), 400},
		"a_long_name":      {"POST", "/login", name(strings.Repeat("x", 201)), 400},
		"an_unknown_item":  {"POST", "/cart/yak", nil, 404},
		"no_quantity":      {"PUT", "/cart/rope", nil, 400},
		"too_many":         {"PUT", "/cart/rope", qty("1000"), 400},
		"a_long_note":      {"PUT", "/note", url.Values{"note": {strings.Repeat("x", 201)}}, 400},
		"an_unknown_page":  {"GET", "/nothing", nil, 404},
		"a_different_verb": {"PUT", "/login", nil, 405},
	} {
		if res, _ := b.send(tc.method, tc.path, nil, tc.form); res.StatusCode != tc.want {
			t.Errorf("%s: %s, want %d", what, res.Status, tc.want)
		}
	}
	res, _ := b.send("POST", "/visit", http.Header{"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"cross-site"}}, nil)
	if res.StatusCode != http.StatusForbidden {
		t.Errorf("a form on another site: %s", res.Status)
	}
}

func TestOutsideOfTheShop(t *testing.T) {
	b := open(t)
	if res, body := b.send("GET", shop.HealthPath, nil, nil); res.StatusCode != 200 || body != "ok\n" {
		t.Errorf("health: %s %q", res.Status, body)
	}
	res, _ := b.send("GET", wire.ProbePath, http.Header{wire.HeaderProbe: {"holder"}}, nil)
	if res.StatusCode != http.StatusNoContent || res.Header.Get(wire.HeaderProbe) != "holder" {
		t.Errorf("the gateway's probe: %s %v", res.Status, res.Header)
	}
	for _, f := range []string{"shop.css", "shop.js", "icons.svg"} {
		if res, body := b.send("GET", "/assets/"+f, nil, nil); res.StatusCode != 200 || body == "" || res.Header.Get("Set-Cookie") != "" {
			t.Errorf("%s: %s", f, res.Status)
		}
	}
}
