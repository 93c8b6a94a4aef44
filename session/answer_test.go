// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
)

// The application answers in its own words, and is told why.
func TestErrorHandlerAnswersWhatFailed(t *testing.T) {
	mem, err := memstore.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	var told error
	m, err := session.New(&failing{Store: mem}, &session.Options{ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
		told = err
		http.Error(w, "ours", http.StatusTeapot)
	}})
	if err != nil {
		t.Fatal(err)
	}
	c := &patched{t: t, m: m}
	c.must(func(s *session.Session) { visits.Set(s, 1) })
	if code := c.do(func(s *session.Session) { visits.Set(s, 2) }); code != http.StatusTeapot || !errors.Is(told, session.ErrUnavailable) {
		t.Errorf("answered %d, told %v", code, told)
	}
}

// What http.ResponseController does beside Flush and Hijack reaches the server.
func TestResponseControllerReachesTheServer(t *testing.T) {
	m := newManager()
	srv := httptest.NewServer(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		rc := http.NewResponseController(w)
		in := time.Now().Add(time.Hour)
		if err := errors.Join(rc.SetReadDeadline(in), rc.SetWriteDeadline(in), rc.EnableFullDuplex()); err != nil {
			t.Error(err)
		}
	})))
	defer srv.Close()
	ask(t, srv.URL, "")
}

// pusher is a server's writer that can push.
type pusher struct {
	http.ResponseWriter
	pushed string
}

func (p *pusher) Push(target string, _ *http.PushOptions) error {
	p.pushed = target
	return nil
}

func TestPushReachesTheServer(t *testing.T) {
	m, w := newManager(), &pusher{ResponseWriter: httptest.NewRecorder()}
	m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p, ok := w.(http.Pusher)
		if !ok {
			t.Fatal("lost Push")
		}
		if err := p.Push("/style.css", nil); err != nil {
			t.Error(err)
		}
	})).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.pushed != "/style.css" {
		t.Errorf("pushed %q", w.pushed)
	}
}

func TestSameSiteIsAsAskedFor(t *testing.T) {
	for site, want := range map[http.SameSite]string{
		0: "Lax", http.SameSiteDefaultMode: "Lax", http.SameSiteLaxMode: "Lax", http.SameSiteStrictMode: "Strict", http.SameSiteNoneMode: "None",
	} {
		mem, err := memstore.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		m, err := session.New(mem, &session.Options{Cookie: session.Cookie{SameSite: site}})
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			s, _ := m.Get(r.Context())
			visits.Set(s, 1)
		})).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		if got := w.Header().Get("Set-Cookie"); !strings.HasSuffix(got, "; SameSite="+want) {
			t.Errorf("%d: %s", site, got)
		}
	}
}
