// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"bufio"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/belay-ha/belay/internal/wire"
)

// writer commits the session before the first byte of the final header.
type writer struct {
	http.ResponseWriter

	e     *exchange
	once  sync.Once
	wrote atomic.Bool // the final header has been decided on
	// failed: the commit failed, the client has its error answer, and what
	// the handler writes is dropped.
	failed atomic.Bool
	before http.Header // what outer handlers had set; nil: nothing
}

var errAnswered = errors.New("session: the commit failed; an error was answered instead")

// outer is what the handler gets: what it can do is what the server's own
// writer can do, so that a type assertion tells the truth.
func (w *writer) outer() http.ResponseWriter {
	if _, ok := w.ResponseWriter.(http.Hijacker); ok {
		return hijackWriter{w}
	}
	if p, ok := w.ResponseWriter.(http.Pusher); ok {
		return pushWriter{w, p}
	}
	return w
}

// Unwrap lets http.ResponseController find what lies below.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// begin is the commit point: once, before the final header. It reports whether
// the handler's answer may go out.
func (w *writer) begin() bool {
	w.once.Do(func() {
		if err := w.commit(); err != nil {
			w.failed.Store(true)
			w.wrote.Store(true)
			w.answer(err)
		}
		w.wrote.Store(true)
	})
	return !w.failed.Load()
}

func (w *writer) commit() error {
	s := w.e.loaded()
	if s == nil {
		return nil
	}
	if err := s.commit(w.e, true); err != nil {
		return err
	}
	h, m := w.Header(), w.e.m
	var sealed string
	if s.mustSeal() {
		var err error
		if sealed, err = s.sealNow(w.e); err != nil {
			return err
		}
	}
	addVary(h, m.transport.vary())
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.cookie {
	case cookieSet:
		if m.carries() {
			m.transport.writeCarried(h, s.token, s.base.Ends, sealed)
			break
		}
		m.transport.write(h, s.token, s.base, m.tellsRev())
	case cookieExpire:
		m.transport.clear(h)
		if s.dead && m.opts.ClearSiteData != "" {
			h.Set("Clear-Site-Data", m.opts.ClearSiteData)
		}
	default:
		return nil
	}
	s.cookie = cookieKeep
	if len(h["Cache-Control"]) == 0 {
		h["Cache-Control"] = cacheNothing
	}
	return nil
}

// answer replaces the handler's answer by an error. The handler's header fields
// describe a body that will not be sent, so none of them stays.
func (w *writer) answer(err error) {
	m, h := w.e.m, w.Header()
	clear(h)
	maps.Copy(h, w.before)
	if errors.Is(err, ErrExpiredAttempt) {
		h.Set(wire.HeaderAttempt, wire.AttemptExpired)
	}
	m.opts.Logger.WarnContext(w.e, "session not committed", "error", err)
	m.Error(w.ResponseWriter, w.e.r, err)
}

// Values of header fields that answers share. They have no room to append in, so
// whoever adds to them gets a copy.
var (
	varyCookie   = []string{"Cookie"}
	cacheNothing = []string{"no-store"}
)

func addVary(h http.Header, name string) {
	there := h["Vary"]
	for _, v := range there {
		if v == name || v == "*" {
			return
		}
	}
	if len(there) == 0 && name == "Cookie" {
		h["Vary"] = varyCookie
		return
	}
	h["Vary"] = append(there, name)
}

func (w *writer) WriteHeader(code int) {
	if code >= 100 && code < 200 && code != http.StatusSwitchingProtocols {
		w.ResponseWriter.WriteHeader(code)
		return
	}
	if w.begin() {
		w.ResponseWriter.WriteHeader(code)
	}
}

func (w *writer) Write(b []byte) (int, error) {
	if !w.begin() {
		return 0, errAnswered
	}
	return w.ResponseWriter.Write(b)
}

func (w *writer) WriteString(s string) (int, error) {
	if !w.begin() {
		return 0, errAnswered
	}
	return io.WriteString(w.ResponseWriter, s)
}

// ReadFrom keeps sendfile for io.Copy.
func (w *writer) ReadFrom(r io.Reader) (int64, error) {
	if !w.begin() {
		return 0, errAnswered
	}
	if rf, ok := w.ResponseWriter.(io.ReaderFrom); ok {
		return rf.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{w.ResponseWriter}, r)
}

func (w *writer) Flush() { _ = w.FlushError() }

// FlushError is what http.ResponseController calls.
func (w *writer) FlushError() error {
	if !w.begin() {
		return errAnswered
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// hijackWriter is for connections that can be taken over (HTTP/1.1).
type hijackWriter struct{ *writer }

// Hijack commits first. The header is the handler's to write: if the client
// needs a new cookie it is in Header, as for any answer.
func (w hijackWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if !w.begin() {
		return nil, nil, errAnswered
	}
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

// pushWriter is for HTTP/2.
type pushWriter struct {
	*writer
	http.Pusher
}
