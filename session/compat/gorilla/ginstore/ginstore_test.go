// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package ginstore_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gin-contrib/sessions"
	"github.com/gin-contrib/sessions/tester"
	"github.com/gin-gonic/gin"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/compat/gorilla"
	"github.com/belay-ha/belay/session/compat/gorilla/ginstore"
	"github.com/belay-ha/belay/session/memstore"
)

func open(opts *gorilla.Options) func(*testing.T) sessions.Store {
	return func(t *testing.T) sessions.Store {
		t.Helper()
		under, err := memstore.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		s, err := ginstore.New(under, opts)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	gin.DefaultWriter = io.Discard
	m.Run()
}

// gin-contrib's own suite. Its Options test counts the cookie's attributes, so it
// wants Options without HttpOnly and Secure to give a cookie without them, which
// takes AllowInsecure.
func TestGinContribTester(t *testing.T) {
	for name, test := range map[string]func(*testing.T, func(*testing.T) sessions.Store){
		"GetSet":    func(t *testing.T, f func(*testing.T) sessions.Store) { tester.GetSet(t, f) },
		"DeleteKey": func(t *testing.T, f func(*testing.T) sessions.Store) { tester.DeleteKey(t, f) },
		"Flashes":   func(t *testing.T, f func(*testing.T) sessions.Store) { tester.Flashes(t, f) },
		"Clear":     func(t *testing.T, f func(*testing.T) sessions.Store) { tester.Clear(t, f) },
		"Many":      func(t *testing.T, f func(*testing.T) sessions.Store) { tester.Many(t, f) },
	} {
		t.Run(name, func(t *testing.T) { test(t, open(nil)) })
		t.Run(name+"_insecure", func(t *testing.T) { test(t, open(&gorilla.Options{AllowInsecure: true})) })
	}
	t.Run("Options_insecure", func(t *testing.T) { tester.Options(t, open(&gorilla.Options{AllowInsecure: true})) })
}

// serve runs one handler behind the session middleware.
func serve(t *testing.T, store sessions.Store, token string, f gin.HandlerFunc) *http.Response {
	t.Helper()
	e := gin.New()
	e.Use(sessions.Sessions("shop", store))
	e.GET("/", f)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	if token != "" {
		r.AddCookie(&http.Cookie{Name: "shop", Value: token})
	}
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	return w.Result()
}

// P23: gin's Options replace all flags at once.
func TestP23_options_of_gin_do_not_drop_flags(t *testing.T) {
	store := open(nil)(t)
	store.Options(sessions.Options{Path: "/", MaxAge: 60, SameSite: http.SameSiteStrictMode})
	res := serve(t, store, "", func(c *gin.Context) {
		s := sessions.Default(c)
		s.Set("a", 1)
		if err := s.Save(); err != nil {
			t.Error(err)
		}
	})
	k := res.Cookies()[0]
	if !k.HttpOnly || !k.Secure || k.SameSite != http.SameSiteStrictMode || k.MaxAge != 60 || k.Path != "/" {
		t.Errorf("got %v", k)
	}
}

// P25: a save that can no longer set its cookie says so.
func TestP25_save_after_the_body(t *testing.T) {
	store := open(nil)(t)
	serve(t, store, "", func(c *gin.Context) {
		c.String(http.StatusOK, "body")
		s := sessions.Default(c)
		s.Set("a", 1)
		if err := s.Save(); !errors.Is(err, session.ErrHeaderSent) {
			t.Errorf("got %v, want ErrHeaderSent", err)
		}
	})
	res := serve(t, store, "", func(c *gin.Context) {
		s := sessions.Default(c)
		s.Set("a", 1)
		if err := s.Save(); err != nil {
			t.Error(err)
		}
	})
	token := res.Cookies()[0].Value
	serve(t, store, token, func(c *gin.Context) { // needs no new cookie
		c.String(http.StatusOK, "body")
		s := sessions.Default(c)
		s.Set("a", 2)
		if err := s.Save(); err != nil {
			t.Error(err)
		}
	})
	serve(t, store, token, func(c *gin.Context) {
		if got := sessions.Default(c).Get("a"); got != 2 {
			t.Errorf("got %v", got)
		}
	})
}

func ExampleNew() {
	under, err := memstore.New(nil) // or any other of Belay's stores
	if err != nil {
		fmt.Println(err)
		return
	}
	store, err := ginstore.New(under, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	router := gin.New()
	router.Use(sessions.Sessions("shop", store))
	router.GET("/count", func(c *gin.Context) {
		s := sessions.Default(c)
		n, _ := s.Get("n").(int)
		s.Set("n", n+1)
		if err := s.Save(); err != nil {
			c.String(http.StatusServiceUnavailable, "try again")
			return
		}
		c.String(http.StatusOK, "%d", n+1)
	})

	var cookies []*http.Cookie
	for range 3 {
		r := httptest.NewRequest(http.MethodGet, "/count", nil)
		for _, k := range cookies {
			r.AddCookie(k)
		}
		w := httptest.NewRecorder()
		router.ServeHTTP(w, r)
		cookies = w.Result().Cookies()
		fmt.Println(w.Body)
	}
	// Output:
	// 1
	// 2
	// 3
}
