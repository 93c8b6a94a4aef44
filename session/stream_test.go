// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
)

// streamApp counts what it streams in the session.
func streamApp(t *testing.T) (*httptest.Server, *session.Manager) {
	t.Helper()
	m := newManager()
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		if err != nil {
			m.Error(w, r, err)
			return
		}
		visits.Update(s, func(n int) int { return n + 1 }) // commits with the upgrade
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.CloseNow()
		for {
			_, msg, err := c.Read(r.Context())
			if err != nil {
				return
			}
			n := visits.Update(s, func(n int) int { return n + 1 })
			answer := fmt.Sprintf("%s %d", msg, n)
			if err := s.Save(r.Context()); err != nil {
				answer = err.Error()
			}
			if c.Write(r.Context(), websocket.MessageText, []byte(answer)) != nil {
				return
			}
		}
	})
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		if err != nil {
			m.Error(w, r, err)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		rc := http.NewResponseController(w)
		for range 3 {
			n := visits.Update(s, func(n int) int { return n + 1 })
			if err := s.Save(r.Context()); err != nil {
				t.Errorf("save: %v", err)
			}
			fmt.Fprintf(w, "data: %d\n\n", n)
			if err := rc.Flush(); err != nil {
				t.Errorf("flush: %v", err)
			}
		}
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s, _ := m.Get(r.Context())
		n, _ := visits.Get(s)
		fmt.Fprint(w, n)
	})
	srv := httptest.NewServer(m.Handler(mux))
	t.Cleanup(srv.Close)
	return srv, m
}

func ask(t *testing.T, url, cookie string) string {
	t.Helper()
	req, _ := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	req.Header.Set("Cookie", cookie)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var b strings.Builder
	_, _ = bufio.NewReader(res.Body).WriteTo(&b)
	return b.String()
}

// A WebSocket of a new visitor: the cookie comes with the upgrade, and changes
// during the conversation are saved.
func TestWebSocket(t *testing.T) {
	srv, _ := streamApp(t)
	c, res, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(srv.URL, "http")+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	cookies := res.Cookies()
	if len(cookies) != 1 {
		t.Fatalf("the upgrade brought %d cookies", len(cookies))
	}
	cookie := cookies[0].Name + "=" + cookies[0].Value
	for i := range 3 {
		if err := c.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		_, msg, err := c.Read(t.Context())
		if err != nil || string(msg) != fmt.Sprintf("hello %d", i+2) {
			t.Fatalf("%q, %v", msg, err)
		}
		if got := ask(t, srv.URL, cookie); got != fmt.Sprint(i+2) {
			t.Errorf("another request sees %s after message %d", got, i)
		}
	}
}

func TestServerSentEvents(t *testing.T) {
	srv, _ := streamApp(t)
	req, _ := http.NewRequestWithContext(t.Context(), "GET", srv.URL+"/events", nil)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	cookie := res.Cookies()[0].Name + "=" + res.Cookies()[0].Value
	lines := bufio.NewScanner(res.Body)
	for want := 1; lines.Scan(); {
		if lines.Text() == "" {
			continue
		}
		if lines.Text() != fmt.Sprintf("data: %d", want) {
			t.Errorf("got %q", lines.Text())
		}
		want++
	}
	if got := ask(t, srv.URL, cookie); got != "3" {
		t.Errorf("after the stream the session has %s", got)
	}
}

// The background work ends with its context, whatever the store.
func TestRunEnds(t *testing.T) {
	store, err := memstore.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []*session.Options{nil, {Mode: session.Sticky, Route: "a", Backup: session.Async}} {
		m, err := session.New(store, o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- m.Run(ctx) }()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
