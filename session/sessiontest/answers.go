// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sessiontest

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
)

var storagePromises = []promise{
	{"T41_a_damaged_record_is_absent_and_a_newer_one_is_unavailable", testT41},
	{"T41_an_undecodable_attribute_is_absent", testT41Attr},
	{"T43_an_anonymous_flood_creates_no_records", testT43},
}

var answerPromises = []promise{
	{"T50_a_store_that_is_away_hangs_nobody", testT50},
	{"T51_a_failed_commit_gives_one_clean_error", testT51},
	{"T52_a_client_that_leaves_does_not_lose_the_commit", testT52},
	{"T53_informational_answers_do_not_commit_and_the_first_byte_does", testT53},
	{"T53_the_writer_can_do_what_the_server_can", testT53Writer},
	{"T54_a_change_after_the_header_is_saved_or_an_error", testT54},
	{"T55_a_panic_commits_nothing", testT55},
	{"T56_an_error_status_commits", testT56},
	{"H24_a_request_that_does_not_use_the_session_does_not_load_it", testH24},
	{"without_the_middleware_there_is_an_error_and_no_panic", testNoMiddleware},
}

func testT41(t *testing.T, e *env) {
	var corrupt atomic.Int64
	a, b := e.app(&session.Options{Hooks: session.Hooks{Corrupt: func(context.Context, session.Info) { corrupt.Add(1) }}}), e.browser()
	b.must(a, setColor("red"))
	answer := session.ErrCorrupt
	e.store.on(func(op string) error {
		if op == "load" {
			return answer
		}
		return nil
	})
	c := b.clone()
	if got := c.color(a); got != "" {
		t.Errorf("read %q", got)
	}
	if c.token() != "" || corrupt.Load() != 1 {
		t.Errorf("the cookie of a damaged record stays, or it was not counted (%d)", corrupt.Load())
	}
	answer = session.ErrNewer
	w := b.do(a, setColor("blue"))
	if w.Code != http.StatusServiceUnavailable || len(w.Header()["Set-Cookie"]) != 0 {
		t.Errorf("a record of a newer version: %d %v, want 503 and the cookie kept", w.Code, w.Header())
	}
	e.store.on(nil)
	if got := b.color(a); got != "red" {
		t.Errorf("the newer record was touched: %q", got)
	}
}

func testT41Attr(t *testing.T, e *env) {
	var hooked atomic.Int64
	a, b := e.app(&session.Options{Hooks: session.Hooks{Undecodable: func(context.Context, string, error) { hooked.Add(1) }}}), e.browser()
	b.must(a, setColor("red"))
	wrong := session.NewKey[int]("color")
	b.must(a, func(_ context.Context, s *session.Session) {
		if v, ok := wrong.Get(s); ok || v != 0 {
			t.Errorf("decoded to %d", v)
		}
		if s.Err() == nil || hooked.Load() != 1 {
			t.Error("Err and the hook do not tell")
		}
		wrong.Set(s, 7)
	})
	if got := readAs(b, a, wrong); got != 7 {
		t.Errorf("it cannot be written anew: %d", got)
	}
	w := b.do(a, func(_ context.Context, s *session.Session) { session.NewKey[chan int]("c").Set(s, nil) })
	if w.Code != http.StatusInternalServerError {
		t.Errorf("a value that cannot be encoded was answered %d", w.Code)
	}
}

func testT43(t *testing.T, e *env) {
	a := e.app(nil)
	for range 50 {
		e.browser().must(a, func(_ context.Context, s *session.Session) {
			color.Get(s)
			color.Delete(s)
			_ = s.Renew(t.Context())
			_ = s.Destroy(t.Context())
		})
		e.browser().must(a, func(_ context.Context, s *session.Session) { _ = s.Renew(t.Context()) })
	}
	if n := e.store.calls(); n != 0 {
		t.Errorf("%d store calls for visitors who have nothing", n)
	}
}

func testT50(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	b.must(a, setColor("red"))
	hung := e.appOn(hangingStore{}, &session.Options{Timeout: 20 * time.Millisecond})
	if w := b.raw(hung, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "static") }); w.Code != http.StatusOK {
		t.Errorf("a page without a session was answered %d", w.Code)
	}
	w := b.do(hung, setColor("blue"))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || len(w.Header()["Set-Cookie"]) != 0 {
		t.Errorf("with the store away: %d %v", w.Code, w.Header())
	}
	// A handler that ignores the error must not look as if it had worked.
	w = b.raw(hung, func(w http.ResponseWriter, r *http.Request) {
		s, err := hung.m.Get(r.Context())
		if !errors.Is(err, session.ErrUnavailable) || s == nil {
			t.Errorf("Get: %v, %v", s, err)
		}
		color.Set(s, "blue")
		_, _ = io.WriteString(w, "saved!")
	})
	if w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "saved!") {
		t.Errorf("a careless handler was answered %d %q", w.Code, w.Body)
	}
}

// hangingStore answers nothing until the context ends.
type hangingStore struct{ session.Store }

func (hangingStore) Load(ctx context.Context, _ session.ID) (session.Record, error) {
	<-ctx.Done()
	return session.Record{}, ctx.Err()
}

func testT51(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	b.must(a, setColor("red"))
	e.store.on(func(op string) error {
		if op == "update" || op == "create" {
			return errors.New("no space")
		}
		return nil
	})
	for name, who := range map[string]*browser{"update": b, "create": e.browser()} {
		w := who.raw(a, func(w http.ResponseWriter, r *http.Request) {
			s, _ := a.m.Get(r.Context())
			color.Set(s, "blue")
			w.Header().Set("Location", "/welcome")
			w.Header().Set("Content-Length", "5")
			w.Header().Set("ETag", `"x"`)
			w.WriteHeader(http.StatusSeeOther)
			if _, err := io.WriteString(w, "hello"); err == nil {
				t.Error("a write after the failed commit reports success")
			}
		})
		if w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "hello") ||
			w.Header().Get("Location") != "" || w.Header().Get("ETag") != "" || w.Header().Get("Content-Length") == "5" || len(w.Header()["Set-Cookie"]) != 0 {
			t.Errorf("%s: %d %v %q", name, w.Code, w.Header(), w.Body)
		}
	}
}

func testT52(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	b.must(a, setColor("red"))
	b.must(a, func(_ context.Context, s *session.Session) { color.Set(s, "blue") }, func(r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		*r = *r.WithContext(ctx)
		t.Cleanup(cancel)
	})
	// The client leaves after the load and before the commit.
	var leave context.CancelFunc
	b.do(a, func(_ context.Context, s *session.Session) {
		color.Set(s, "green")
		leave()
	}, func(r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		leave = cancel
		*r = *r.WithContext(ctx)
	})
	if got := b.color(a); got != "green" {
		t.Errorf("read %q: the change was lost with the client", got)
	}
}

// serve runs a handler behind a real server.
func serve(t *testing.T, a *app, f http.HandlerFunc) *httptest.Server {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), handlerKey{}, f)))
	}))
	srv.Start()
	t.Cleanup(srv.Close)
	return srv
}

func testT53(t *testing.T, e *env) {
	a := e.app(nil)
	for name, first := range map[string]func(w http.ResponseWriter){
		"flush":      func(w http.ResponseWriter) { w.(http.Flusher).Flush() },
		"controller": func(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() },
		"write":      func(w http.ResponseWriter) { _, _ = w.Write([]byte("x")) },
		"readfrom":   func(w http.ResponseWriter) { _, _ = io.Copy(w, strings.NewReader("x")) },
		"status":     func(w http.ResponseWriter) { w.WriteHeader(http.StatusTeapot) },
		"return":     func(http.ResponseWriter) {},
		"hijack": func(w http.ResponseWriter) {
			head := w.Header()
			c, rw, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_, _ = rw.WriteString("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n")
			_ = head.Write(rw)
			_, _ = rw.WriteString("\r\n")
			_ = rw.Flush()
		},
	} {
		created := e.store.creates.Load()
		done := make(chan struct{})
		srv := serve(t, a, func(w http.ResponseWriter, r *http.Request) {
			defer close(done)
			w.Header().Set("Link", "</style.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			if e.store.creates.Load() != created {
				t.Errorf("%s: 103 committed", name)
			}
			s, _ := a.m.Get(r.Context())
			color.Set(s, name)
			first(w)
			if name != "return" && e.store.creates.Load() != created+1 {
				t.Errorf("%s: the first byte went out before the commit", name)
			}
		})
		hints := 0
		req, _ := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(int, textproto.MIMEHeader) error { hints++; return nil },
		}), "GET", srv.URL, nil)
		res, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(name, err)
		}
		_ = res.Body.Close()
		<-done
		if hints != 1 {
			t.Errorf("%s: %d early hints", name, hints)
		}
		b := e.browser()
		for _, k := range res.Cookies() {
			b.set(k.Value)
		}
		if got := b.color(a); got != name {
			t.Errorf("%s: the client got no working cookie: %q", name, got)
		}
	}
}

// plainWriter can do nothing but write.
type plainWriter struct{ http.ResponseWriter }

// hijackable can be taken over and read from.
type hijackable struct {
	http.ResponseWriter
	readFrom *bool
}

func (h hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, http.ErrNotSupported
}

func (h hijackable) ReadFrom(r io.Reader) (int64, error) {
	*h.readFrom = true
	return io.Copy(struct{ io.Writer }{h.ResponseWriter}, r)
}

func testT53Writer(t *testing.T, e *env) {
	a := e.app(nil)
	serve := func(w http.ResponseWriter, f http.HandlerFunc) {
		r := httptest.NewRequest("GET", "/", nil)
		a.h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), handlerKey{}, f)))
	}
	serve(plainWriter{httptest.NewRecorder()}, func(w http.ResponseWriter, _ *http.Request) {
		if _, ok := w.(http.Hijacker); ok {
			t.Error("claims to be a Hijacker, and is none")
		}
		if _, ok := w.(http.Pusher); ok {
			t.Error("claims to be a Pusher, and is none")
		}
	})
	used := false
	serve(hijackable{httptest.NewRecorder(), &used}, func(w http.ResponseWriter, _ *http.Request) {
		if _, ok := w.(http.Hijacker); !ok {
			t.Error("lost Hijack")
		}
		if _, err := io.Copy(w, io.LimitReader(strings.NewReader("hello"), 5)); err != nil {
			t.Error(err)
		}
	})
	if !used {
		t.Error("io.Copy did not use the server's ReadFrom: sendfile is lost")
	}
}

func testT54(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	late := func(w http.ResponseWriter, r *http.Request) {
		s, _ := a.m.Get(r.Context())
		_, _ = io.WriteString(w, "begun")
		color.Set(s, "late")
		if err := s.Save(r.Context()); s.IsNew() && !errors.Is(err, session.ErrHeaderSent) {
			t.Errorf("a new session after the header: %v", err)
		}
		if err := s.Renew(r.Context()); !errors.Is(err, session.ErrHeaderSent) {
			t.Errorf("a renewal after the header: %v", err)
		}
	}
	b.raw(a, late)
	if e.store.creates.Load() != 0 {
		t.Error("a session was stored whose cookie cannot be sent")
	}
	b.must(a, setColor("red"))
	b.raw(a, late)
	if got := b.color(a); got != "late" {
		t.Errorf("a change after the header, with a cookie: %q", got)
	}
	b.raw(a, func(w http.ResponseWriter, r *http.Request) {
		s, _ := a.m.Get(r.Context())
		_, _ = io.WriteString(w, "begun")
		color.Set(s, "later") // and no Save: the end of the request does it
	})
	if got := b.color(a); got != "later" {
		t.Errorf("a change after the header, without Save: %q", got)
	}
}

func testT55(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	b.must(a, setColor("red"))
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		b.do(a, func(_ context.Context, s *session.Session) {
			color.Set(s, "blue")
			panic("handler")
		})
	}()
	if got := b.color(a); got != "red" {
		t.Errorf("committed %q", got)
	}
}

func testT56(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	b.raw(a, func(w http.ResponseWriter, r *http.Request) {
		s, _ := a.m.Get(r.Context())
		color.Set(s, "red")
		http.Error(w, "broken", http.StatusInternalServerError)
	})
	if got := b.color(a); got != "red" {
		t.Errorf("read %q", got)
	}
}

func testH24(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	b.must(a, setColor("red"))
	before := e.store.calls()
	b.raw(a, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "static") })
	if n := e.store.calls() - before; n != 0 {
		t.Errorf("%d store calls", n)
	}
	b.must(a, func(_ context.Context, s *session.Session) { color.Get(s); size.Get(s) })
	if n := e.store.calls() - before; n != 1 {
		t.Errorf("a read cost %d store calls, want 1", n)
	}
	b.must(a, func(_ context.Context, s *session.Session) { color.Set(s, "red") })
	if e.store.updates.Load() != 0 {
		t.Error("setting the value that is there wrote")
	}
}

func testNoMiddleware(t *testing.T, e *env) {
	m, err := session.New(e.store, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := m.Get(t.Context())
	if !errors.Is(err, session.ErrNoMiddleware) {
		t.Errorf("Get: %v", err)
	}
	color.Set(s, "red")
	hits.Update(s, func(n int) int { return n + 1 })
	if _, ok := color.Get(s); ok || s.Once("k") || s.Save(t.Context()) == nil || s.Destroy(t.Context()) == nil || s.Renew(t.Context()) == nil {
		t.Error("a session that is none seems to work")
	}
}
