// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/belay-ha/belay/internal/wire"
	"github.com/belay-ha/belay/server/internal/gateway/edge"
	"github.com/belay-ha/belay/server/internal/gateway/upstream"
)

// interim passes on a 1xx answer.
func (x *exchange) interim(resp *http.Response) {
	h := x.w.Header()
	last := h["Connection"] // for the final answer
	copyAnswerHeader(h, resp.Header)
	x.sending()
	x.w.WriteHeader(resp.StatusCode)
	clear(h)
	if last != nil {
		h["Connection"] = last
	}
}

// answer passes on the answer of server i. It reports false if the library
// refused the attempt and another server may have it.
func (x *exchange) answer(i int, a *attempt, resp *http.Response) bool {
	if a.fenced && resp.StatusCode == http.StatusServiceUnavailable {
		if why := x.refused(resp.Header.Get(wire.HeaderAttempt)); why != "" {
			if a.giveUp(); why == "attempt_expired" {
				x.failed = unknown(http.StatusServiceUnavailable, "The request took longer than its server was trusted.", why)
			}
			x.fence = time.Time{} // the library has said that it did not take effect
			return x.move(why)
		}
	}
	a.body()
	x.answered = true
	x.heard(i, a, resp.StatusCode)
	if resp.StatusCode == http.StatusSwitchingProtocols {
		x.join(i, a, resp)
		return true
	}
	if x.socket != nil && resp.StatusCode < 300 { // to the client that would mean that it is open
		a.giveUp()
		x.refuse(&refusal{status: http.StatusBadGateway, outcome: "no_upgrade", text: "The server opened no WebSocket."})
		return true
	}
	x.head(i, resp)
	x.status, x.outcome = resp.StatusCode, "answered"
	x.sending()
	x.w.WriteHeader(resp.StatusCode)
	err := x.copyBody(a, resp)
	upErr := x.finishUpload(err == nil)
	reusable := a.end() && err == nil && upErr == nil && !resp.Close && framed(x.r, resp)
	if reusable {
		a.link.Release()
	} else {
		a.link.Close()
	}
	if err == nil {
		trailers(x.w.Header(), resp)
		return true
	}
	x.cut = true
	switch {
	case x.ctx.Err() != nil || errors.Is(err, errClient):
		x.outcome = "client_gone"
	case errors.Is(err, errSilent):
		x.outcome = "body_silent"
	default:
		x.outcome = "body_broken"
	}
	return true
}

// refused reports why the request may go to another server although it was
// answered; empty: the answer is final.
func (x *exchange) refused(said string) string {
	if x.msg.upload.Begun() {
		return ""
	}
	switch {
	case said == wire.AttemptRefused: // it never ran
		return "attempt_refused"
	case said == wire.AttemptExpired && x.repeat(): // it ran, but the session was not changed
		return "attempt_expired"
	}
	return ""
}

// head writes the header fields of the final answer.
func (x *exchange) head(i int, resp *http.Response) {
	h := x.w.Header()
	copyAnswerHeader(h, resp.Header)
	if h["Content-Type"] == nil {
		h["Content-Type"] = nil // what the app left out is not ours to guess
	}
	x.stick(h, i)
	x.site.cfg.Response.apply(h)
	if len(resp.Trailer) > 0 {
		for name := range resp.Trailer {
			h.Add("Trailer", name)
		}
	}
}

// stick tells the client which server answered, if it does not know.
func (x *exchange) stick(h http.Header, i int) {
	s := x.p.cfg.Sticky
	if s == nil || s.Cookie == "" {
		return
	}
	kept := h["Set-Cookie"][:0:0]
	for _, line := range h["Set-Cookie"] {
		if name, _, _ := strings.Cut(line, "="); strings.TrimSpace(name) != s.Cookie {
			kept = append(kept, line)
		}
	}
	if value := x.p.cookies[i]; value != x.cookie && x.p.balance.Rebind(x.q, i, time.Now()) {
		kept = append(kept, (&http.Cookie{
			Name: s.Cookie, Value: value, Path: "/", HttpOnly: true,
			SameSite: http.SameSiteLaxMode, Secure: s.Secure || x.r.TLS != nil,
		}).String())
		keepPrivate(h)
	}
	if len(kept) > 0 {
		h["Set-Cookie"] = kept
	} else {
		delete(h, "Set-Cookie")
	}
}

// keepPrivate makes one Cache-Control of what the server said and of the fact that
// this answer has a cookie for one user: no shared cache may give it to another.
func keepPrivate(h http.Header) {
	var kept []string
	for _, line := range h["Cache-Control"] {
		for d := range strings.SplitSeq(line, ",") {
			d = strings.TrimSpace(d)
			name, _, _ := strings.Cut(strings.ToLower(d), "=")
			switch name {
			case "no-store":
				return // nobody keeps it
			case "", "public", "s-maxage", "private": // private="field" lets caches keep the rest
			default:
				kept = append(kept, d)
			}
		}
	}
	h["Cache-Control"] = []string{strings.Join(append(kept, "private"), ", ")}
}

var errClient = errors.New("gateway: client does not take the answer")

// copyBuffers hold bodies on their way.
var copyBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// spliceFrom is the length from which a body is left to the kernel: below, it is
// in our buffer sooner than the kernel has begun.
const spliceFrom = 128 << 10

type readerFrom interface {
	io.Writer
	io.ReaderFrom
}

// copyBody passes the body on as it comes: whenever nothing more is at hand,
// what there is goes to the client.
func (x *exchange) copyBody(a *attempt, resp *http.Response) error {
	if resp.Body == http.NoBody || resp.ContentLength == 0 || x.r.Method == http.MethodHead {
		return nil
	}
	if to, ok := x.w.(readerFrom); ok && a.conn != nil && resp.ContentLength >= spliceFrom && x.r.TLS == nil && x.r.ProtoMajor == 1 && a.conn.CanSplice() {
		return x.splice(a, to, resp.ContentLength)
	}
	buf := copyBuffers.Get().(*[32 << 10]byte)
	defer copyBuffers.Put(buf)
	flush := x.rc.Flush
	more := a.link.Pending
	// Bytes at hand may be no more than the end of a chunk: to read on would
	// keep from the client what is here.
	gather := resp.ContentLength > 0 && a.conn != nil
	if gather {
		more = a.conn.AtHand
	}
	if !more() && flush() != nil {
		return errClient
	}
	for {
		n, err := resp.Body.Read(buf[:])
		for gather && err == nil && n < len(buf) && x.bytes+int64(n) < resp.ContentLength && more() {
			var m int
			m, err = resp.Body.Read(buf[n:])
			n += m
		}
		if n > 0 {
			x.sending()
			if x.pass(buf[:n], resp.ContentLength) != nil {
				return errClient
			}
		}
		switch {
		case err == io.EOF || x.bytes == resp.ContentLength:
			return nil
		case err != nil:
			return err
		}
		if !more() && flush() != nil {
			return errClient
		}
	}
}

// alone is the length from which net/http's server may not send a body in one piece
// with its head: it has 4 KiB for both.
const alone = 2 << 10

// pass gives the client a piece of a body of that length: a whole one together
// with its head.
func (x *exchange) pass(p []byte, length int64) error {
	write := func() error {
		n, err := x.w.Write(p)
		x.bytes += int64(n)
		return err
	}
	if x.bytes > 0 || int64(len(p)) != length || length < alone || x.msg.upload != nil {
		return write()
	}
	return edge.Together(x.ctx, func() error {
		if err := write(); err != nil {
			return err
		}
		return x.rc.Flush()
	})
}

// spliceStep is how much the client may take his time for at once.
const spliceStep = 8 << 20

func (x *exchange) splice(a *attempt, to readerFrom, length int64) error {
	for x.bytes < length {
		x.sending()
		n, fromServer, err := a.conn.Splice(to, min(length-x.bytes, spliceStep))
		x.bytes += n
		if err != nil && !fromServer {
			err = errClient
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// uploadLinger is how long an upload may go on after the end of the answer. One
// that the server has read to its end is through in no time.
const uploadLinger = 50 * time.Millisecond

// finishUpload ends the upload beside an answer that is complete, or broken. An
// upload that is not through then makes both connections useless.
func (x *exchange) finishUpload(ok bool) error {
	u := x.msg.upload
	if !u.Begun() {
		return nil
	}
	if ok {
		_ = x.rc.Flush()
		t := time.NewTimer(uploadLinger)
		defer t.Stop()
		select {
		case <-u.Done():
			return u.Err()
		case <-t.C:
		}
	}
	x.stopUpload()
	return upstream.ErrBody
}

// framed reports whether the end of the answer was marked, so that another may
// follow on the connection.
func framed(r *http.Request, resp *http.Response) bool {
	return resp.ContentLength >= 0 || len(resp.TransferEncoding) > 0 || r.Method == http.MethodHead || resp.Body == http.NoBody
}

func trailers(h http.Header, resp *http.Response) {
	for name, values := range resp.Trailer {
		switch {
		case hopByHop(name) || private(name):
		case slices.Contains(h["Trailer"], name):
			h[name] = values
		default: // the server did not announce it
			h[http.TrailerPrefix+name] = values
		}
	}
}
