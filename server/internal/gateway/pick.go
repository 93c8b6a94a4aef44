// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net/http"
	"strings"
	"time"

	"github.com/belay-ha/belay/internal/wire"
	"github.com/belay-ha/belay/server/internal/gateway/balance"
)

// bind finds out what a request says of where it belongs, and returns the Cookie
// lines without what is the gateway's own.
func (x *exchange) bind(cookies []string) []string {
	x.q.Tried = &x.tried
	cfg := &x.p.cfg
	if s := cfg.Sticky; s != nil && len(cookies) > 0 {
		if s.SessionCookie != "" {
			x.token, x.known = sessionToken(cookies, s.SessionCookie)
			x.q.Route = x.token.Route
		} else {
			x.token, x.known = sessionToken(cookies, "__Host-id")
			if !x.known {
				x.token, x.known = sessionToken(cookies, "id")
			}
		}
		if s.Cookie != "" {
			x.cookie, cookies = cutCookie(cookies, s.Cookie)
			x.q.Cookie = x.cookie
		}
	}
	if cfg.Balance.Algorithm == balance.Hash {
		if key := x.hashKey(cfg.Balance.HashBy, cookies); key != "" {
			x.q.Key, x.q.Keyed = balance.KeyOf(key), true
		}
	}
	return cookies
}

// hashKey is the text that decides which server a request goes to; empty: it has none.
func (x *exchange) hashKey(by HashBy, cookies []string) string {
	switch by.What {
	case HashPath:
		return x.r.URL.Path
	case HashHeader:
		return x.r.Header.Get(by.Name)
	case HashCookie:
		return cookieValue(cookies, by.Name)
	}
	if x.client.IP.IsValid() {
		return x.client.IP.String()
	}
	return ""
}

// sessionToken returns the first session cookie of that name which is well-formed.
func sessionToken(lines []string, name string) (wire.Token, bool) {
	if v := cookieValue(lines, name); v != "" {
		if t, err := wire.ParseToken(v); err == nil {
			return t, true
		}
	}
	return wire.Token{}, false
}

// cookieValue returns the first value of a cookie; empty: there is none.
func cookieValue(lines []string, name string) string {
	for _, line := range lines {
		if !strings.Contains(line, name+"=") {
			continue
		}
		for part := range strings.SplitSeq(line, ";") {
			if n, v, _ := strings.Cut(strings.TrimSpace(part), "="); n == name {
				return v
			}
		}
	}
	return ""
}

// user tells users apart for counting them: by session, else by address.
func (x *exchange) user() uint64 {
	if x.known {
		return balance.KeyOf(string(x.token.ID[:]))
	}
	ip := x.client.IP.As16()
	return balance.KeyOf(string(ip[:]))
}

// pick gives the request a place on a server. It waits for one if every server
// is full; it reports false if there is none, and the client has been told.
func (x *exchange) pick() (int, bool) {
	i, verdict, waiter := x.p.balance.Enter(x.q, time.Now())
	if waiter != nil {
		var ok bool
		if i, verdict, ok = x.wait(waiter); !ok {
			return 0, false
		}
	}
	switch verdict {
	case balance.Picked:
		return i, true
	case balance.Busy:
		text := "All servers are busy. Try again."
		if waiter != nil {
			x.refuse(&refusal{status: http.StatusServiceUnavailable, outcome: "queue_timeout", text: text})
		} else {
			x.refuse(&refusal{status: http.StatusServiceUnavailable, outcome: "queue_full", text: text})
		}
	case balance.Lost:
		f := x.failed
		if f == nil {
			f = &refusal{status: http.StatusServiceUnavailable, outcome: "own_server_lost", text: "The server that holds your session is not available at the moment. Try again."}
		}
		x.refuse(f)
	default:
		x.noServer()
	}
	return 0, false
}

func (x *exchange) wait(w *balance.Waiter) (int, balance.Verdict, bool) {
	start := time.Now()
	t := time.NewTimer(x.p.cfg.Balance.QueueDeadline)
	defer t.Stop()
	defer func() { x.g.metrics.wait(x.p.cfg.Name, time.Since(start)) }()
	select {
	case g := <-w.C():
		return g.Server, g.Verdict, true
	case <-t.C:
		x.p.balance.Leave(w, time.Now())
		return 0, balance.Busy, true
	case <-x.ctx.Done():
		x.p.balance.Leave(w, time.Now())
		x.gone()
		return 0, balance.Nobody, false
	}
}

// heard is told that the head of an answer is here.
func (x *exchange) heard(i int, a *attempt, status int) {
	took := time.Since(a.sent)
	x.result = balance.Result{Took: took, Failed: failing(status)}
	x.p.observe(i, x.result.Failed, took)
	if s := x.p.backends[i].seen; s != nil {
		s.Add(x.user(), time.Now())
	}
}

// failing reports whether a status says that the server is not well. 503 is what
// a healthy app answers when something behind it is away, and 501 and 505 are
// about the request.
func failing(status int) bool {
	switch status {
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusGatewayTimeout:
		return true
	}
	return status > 505
}
