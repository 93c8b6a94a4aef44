// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/belay-ha/belay/internal/wire"
	"github.com/belay-ha/belay/server/internal/gateway/health"
	"github.com/belay-ha/belay/server/internal/gateway/upstream"
)

// Servers that speak HTTP/2: the same exchange, with the same watch over it, on
// a stream instead of a connection.

// tryStream runs the request on one server, like try.
func (x *exchange) tryStream(i int, b *backend) bool {
	if upgrade(x.r.Header) != "" {
		x.refuse(&refusal{status: http.StatusNotImplemented, outcome: "no_upgrade", text: "The servers of this route speak HTTP/2, which has no Upgrade."})
		return true
	}
	for again := false; ; again = true {
		over, stale := x.onStream(i, b, again)
		if !stale {
			return over
		}
	}
}

// onStream is one try. stale says that the connection had ended, or the server
// had taken leave, before it looked at the request; a new one may do better.
func (x *exchange) onStream(i int, b *backend, again bool) (over, stale bool) {
	s := b.streams.Load().Open(x.ctx)
	a := b.begin(x.ctx, s, x.site.t)
	req, err := x.streamRequest(a)
	if err != nil {
		a.giveUp()
		x.refuse(&refusal{status: http.StatusBadRequest, outcome: "bad_request", text: "The request cannot be passed on over HTTP/2."})
		return true, false
	}
	a.mu.Lock()
	a.upload, a.repeat = x.msg.upload, x.msg.upload == nil && x.repeat()
	a.mu.Unlock()
	a.patient()
	resp, sent, err := s.RoundTrip(req, x.interim)
	switch {
	case err == nil:
		return x.answer(i, a, resp), false
	case errors.Is(err, upstream.ErrRefused), errors.Is(err, upstream.ErrUnreachable), errors.Is(err, upstream.ErrLocal):
		a.giveUp()
		return x.noConnection(b, err), false
	case !again && !sent && errors.Is(err, upstream.ErrBroken) && x.ctx.Err() == nil && !x.msg.upload.Begun():
		a.giveUp()
		x.note("stale_connection")
		return false, true
	}
	return x.lost(i, a, sent, err), false
}

// streamRequest is the message as net/http's client takes it. The head has been
// written for HTTP/1.1, and is read again: there is one place that decides what
// a server gets to see.
func (x *exchange) streamRequest(a *attempt) (*http.Request, error) {
	head := append(x.msg.head[:len(x.msg.head):len(x.msg.head)], "\r\n"...)
	// The client may still read the body when its answer is already here, and then
	// the buffer has another user's.
	body := bytes.Clone(x.msg.body)
	req, err := http.ReadRequest(bufio.NewReader(io.MultiReader(bytes.NewReader(head), bytes.NewReader(body))))
	if err != nil {
		return nil, err
	}
	req.URL.Opaque, req.URL.RawQuery, _ = strings.Cut(req.RequestURI, "?")
	req.URL.ForceQuery = strings.HasSuffix(req.RequestURI, "?")
	req.RequestURI = ""
	if a.fenced {
		req.Header.Set(wire.HeaderAttempt, a.header())
	}
	if strings.Contains(strings.ToLower(strings.Join(x.r.Header["Te"], ",")), "trailers") {
		req.Header.Set("Te", "trailers") // gRPC insists on it
	}
	switch u := x.msg.upload; {
	case u != nil:
		req.Body, req.ContentLength, req.Trailer = u.Reader(), u.Length, x.r.Trailer
	case len(x.r.Trailer) > 0: // as it was read, in chunks
	case !repeatable(x.r):
		// net/http sends again what a server reset with PROTOCOL_ERROR, though that
		// may have run. It must not be able to read the body again, even none.
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	case len(body) > 0:
		req.ContentLength = int64(len(body))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		req.Body, _ = req.GetBody()
	default:
		req.Body, req.ContentLength = nil, 0
	}
	return req, nil
}

// line is a connection for small questions.
type line interface {
	Get(path, name, value string) (int, http.Header, error)
	Ask(health.Question) (health.Reply, error)
	Close()
}

// streamLine asks over HTTP/2, on a connection of its own, so that the answer
// tells whether the server takes new ones.
type streamLine struct {
	t      *upstream.Transport
	ctx    context.Context //nolint:containedctx // that of the questions
	cancel context.CancelFunc
	host   string
}

func newStreamLine(ctx context.Context, b *backend) *streamLine {
	ctx, cancel := context.WithCancel(ctx)
	return &streamLine{upstream.NewTransport(b.conns, b.protocol), ctx, cancel, upstream.HostOf(b.address)}
}

func (l *streamLine) Close() {
	l.cancel()
	l.t.CloseIdle()
}

func (l *streamLine) Get(path, name, value string) (int, http.Header, error) {
	q := health.Question{Path: path}
	if name != "" {
		q.Header = []string{name, value}
	}
	r, err := l.Ask(q)
	return r.Status, r.Header, err
}

// maxAnswer is how much of the body of an answer is looked at.
const maxAnswer = 64 << 10

func (l *streamLine) Ask(q health.Question) (health.Reply, error) {
	req, err := http.NewRequestWithContext(l.ctx, q.Method, q.Path, nil)
	if err != nil {
		return health.Reply{}, err
	}
	if req.Host = l.host; q.Host != "" {
		req.Host = q.Host
	}
	req.Header.Set("User-Agent", "belay")
	for i := 0; i+1 < len(q.Header); i += 2 {
		req.Header.Add(q.Header[i], q.Header[i+1])
	}
	resp, err := l.t.Do(req)
	if err != nil {
		return health.Reply{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return health.Reply{Status: resp.StatusCode, Header: resp.Header, Body: body}, err
}
