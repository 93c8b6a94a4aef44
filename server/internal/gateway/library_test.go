// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-ha/belay/internal/wire"
	"github.com/belay-ha/belay/server/internal/gateway"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
)

var cart = session.NewKey[string]("cart")

// shop is an app with the true session library: PUT /cart?v=… writes, at its
// end, what GET /cart reads. Without fenced it is an app whose library ignores
// deadlines.
func shop(t *testing.T, a *app, store session.Store, fenced bool) http.Handler {
	t.Helper()
	m, err := session.New(store, &session.Options{Cookie: session.Cookie{Insecure: true}})
	if err != nil {
		t.Fatal(err)
	}
	h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		if err != nil {
			m.Error(w, r, err)
			return
		}
		if r.Method == http.MethodPut {
			if d, err := time.ParseDuration(r.URL.Query().Get("work")); err == nil {
				time.Sleep(d)
			}
			a.gate()
			cart.Set(s, r.URL.Query().Get("v"))
		}
		v, _ := cart.Get(s)
		fmt.Fprint(w, a.name, " ", v)
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !fenced {
			r.Header.Del(wire.HeaderAttempt)
		}
		h.ServeHTTP(w, r)
	})
}

// runShop runs a test with two shops over one store.
func runShop(t *testing.T, fenced bool, test func(*world)) {
	t.Helper()
	run(t, 2, func(_ *gateway.Config, apps []*app) {
		store, err := memstore.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range apps {
			a.real = shop(t, a, store, fenced)
		}
	}, test)
}

// cookies returns what a browser would send back.
func cookies(a answer) string {
	var all []string
	for _, line := range a.header.Values("Set-Cookie") {
		v, _, _ := strings.Cut(line, ";")
		all = append(all, v)
	}
	return strings.Join(all, "; ")
}

// TestThawedShopHarmsNobody freezes a server in the middle of a write, lets its
// user go on elsewhere, and wakes it. With the fence the old write is refused;
// the second half shows what would happen if the library ignored deadlines.
func TestThawedShopHarmsNobody(t *testing.T) {
	for name, tc := range map[string]struct {
		fenced bool
		want   string
	}{
		"fenced":   {true, "third"},
		"unfenced": {false, "second"}, // the user's newest write is undone
	} {
		t.Run(name, func(t *testing.T) {
			runShop(t, tc.fenced, func(w *world) {
				first := w.do("PUT", "/cart?v=first", "")
				first.want(w, 200, "app1 first", 0)
				c := cookies(first)
				time.AfterFunc(50*time.Millisecond, w.apps[0].freeze)
				w.do("PUT", "/cart?v=second&work=100ms", "", "Cookie", c).want(w, 200, "app2 second", bound+100*time.Millisecond)
				w.do("PUT", "/cart?v=third", "", "Cookie", c).want(w, 200, "app2 third", 0)
				w.apps[0].thaw()
				time.Sleep(5 * time.Second)
				synctest.Wait()
				w.get("/cart", "Cookie", c).want(w, 200, tc.want, 0)
			})
		})
	}
}

func TestSlowShopIsRenewed(t *testing.T) {
	runShop(t, true, func(w *world) {
		first := w.do("PUT", "/cart?v=first", "")
		w.do("PUT", "/cart?v=second&work=3s", "", "Cookie", cookies(first)).want(w, 200, "app1 second", 3*time.Second)
		if s := w.g.Servers(); !s[0].Library || !s[1].Library {
			w.Error("the library was not noticed")
		}
	})
}

func TestShopUserOutlivesItsServer(t *testing.T) {
	runShop(t, true, func(w *world) {
		first := w.do("PUT", "/cart?v=first", "")
		first.want(w, 200, "app1 first", 0)
		w.apps[0].ln.kill()
		w.get("/cart", "Cookie", cookies(first)).want(w, 200, "app2 first", 0)
	})
}
