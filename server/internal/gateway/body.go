// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

var (
	errTooLarge = errors.New("gateway: the body of the request is too large")
	errSlowBody = errors.New("gateway: the client sends nothing more of the body")
)

// clientBody is the body of a request under the limits of its route. It is read
// by one goroutine at a time; stop may be called meanwhile.
type clientBody struct {
	io.ReadCloser
	rc    *http.ResponseController
	pause time.Duration // longest wait for the next byte; 0: no limit
	left  int64         // bytes that may come; negative: any number

	mu      sync.Mutex
	stopped bool
	failed  error // errTooLarge or errSlowBody
}

func (b *clientBody) Read(p []byte) (int, error) {
	if !b.deadline(time.Now().Add(b.pause)) {
		return 0, os.ErrDeadlineExceeded
	}
	n, err := b.ReadCloser.Read(p)
	if b.left >= 0 {
		if b.left -= int64(n); b.left < 0 {
			return n, b.fail(errTooLarge)
		}
	}
	switch {
	case err == nil:
	case errors.Is(err, os.ErrDeadlineExceeded) && b.pause > 0:
		return n, b.fail(errSlowBody)
	default: // at the end the server listens for the client to leave: for that there is no limit
		b.deadline(time.Time{})
	}
	return n, err
}

// deadline reports false after stop.
func (b *clientBody) deadline(t time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pause > 0 && !b.stopped {
		_ = b.rc.SetReadDeadline(t)
	}
	return !b.stopped
}

func (b *clientBody) fail(err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed == nil && !b.stopped {
		b.failed = err
	}
	return err
}

// why is what the client did wrong; nil: nothing that a limit forbids.
func (b *clientBody) why() error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed
}

// stop wakes up whoever waits for the client.
func (b *clientBody) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = true
	_ = b.rc.SetReadDeadline(longAgo)
}

// limitBody puts the body under the limits of the route. It reports false if it
// is refused right away.
func (x *exchange) limitBody() bool {
	r, site := x.r, x.site
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return true
	}
	most := int64(-1)
	if site.cfg.MaxBody > 0 {
		most = site.cfg.MaxBody
	}
	if most >= 0 && r.ContentLength > most {
		x.tooLarge()
		return false
	}
	x.body = &clientBody{ReadCloser: r.Body, rc: x.rc, pause: site.cfg.BodyTimeout, left: most}
	if dialogue(r) {
		x.body.pause = 0 // both sides may be silent for as long as they like
	}
	r.Body = x.body
	return true
}

func (x *exchange) tooLarge() {
	x.w.Header().Set("Connection", "close") // rather than to read what is not wanted
	x.refuse(&refusal{status: http.StatusRequestEntityTooLarge, outcome: "body_too_large", text: "The body of the request is too large for this address."})
}

func (x *exchange) badBody() {
	if x.ctx.Err() != nil && x.body.why() == nil {
		x.gone()
		return
	}
	x.w.Header().Set("Connection", "close") // where the next request would begin is unknown
	switch {
	case errors.Is(x.body.why(), errTooLarge):
		x.tooLarge()
	case errors.Is(x.body.why(), errSlowBody):
		x.refuse(&refusal{status: http.StatusRequestTimeout, outcome: "slow_body", text: "The body of the request did not come in time."})
	default:
		x.refuse(&refusal{status: http.StatusBadRequest, outcome: "bad_body", text: "The body of the request is malformed or was cut off."})
	}
}

// sending gives the client time to take the next bytes, and a little more: then
// the deadline need not be set anew for each piece.
func (x *exchange) sending() {
	if x.site == nil || x.site.cfg.SendTimeout <= 0 {
		return
	}
	limit, now := x.site.cfg.SendTimeout, time.Now()
	if more := limit / 16; now.Sub(x.granted) > more {
		_ = x.rc.SetWriteDeadline(now.Add(limit + more))
		x.granted = now
	}
}
