// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"io"
	"net/http"
	"strconv"
	"time"
)

// HeaderOutcome is set to "unknown" on the gateway's own error answers when the
// request may have taken effect.
const HeaderOutcome = "Belay-Outcome"

// statusGone is for the log only: the client did not wait for its answer.
const statusGone = 499

// refusal is an answer of the gateway itself.
type refusal struct {
	status  int
	text    string
	outcome string // for the log
	unknown bool   // the request may have taken effect

	wait time.Duration // for Retry-After; 0: a second, where that makes sense
}

func unknown(status int, text, outcome string) *refusal {
	return &refusal{
		status: status, outcome: outcome, unknown: true,
		text: text + " The outcome is unknown: the request may or may not have taken effect.",
	}
}

func (x *exchange) refuse(f *refusal) {
	x.sending()
	h := x.w.Header()
	page := Page{Type: "text/plain; charset=utf-8", Body: f.text + "\n"}
	if x.site != nil {
		x.site.cfg.Response.apply(h)
		if own, ok := x.site.cfg.Pages[f.status]; ok {
			page = own
		}
	}
	h.Set("Content-Type", page.Type)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if f.unknown {
		h.Set(HeaderOutcome, "unknown")
	}
	if f.status == http.StatusServiceUnavailable || f.status == http.StatusTooManyRequests {
		h.Set("Retry-After", strconv.Itoa(max(1, int((f.wait+time.Second-1)/time.Second))))
	}
	h.Set("Content-Length", strconv.Itoa(len(page.Body)))
	x.status, x.outcome = f.status, f.outcome
	x.w.WriteHeader(f.status)
	if x.r.Method != http.MethodHead {
		n, _ := io.WriteString(x.w, page.Body)
		x.bytes = int64(n)
	}
}

// noServer answers when no server can be tried any more.
func (x *exchange) noServer() {
	switch {
	case x.failed != nil:
		x.refuse(x.failed)
	case len(x.retries) > 0:
		x.refuse(&refusal{status: http.StatusServiceUnavailable, outcome: "no_server_left", text: "No server could take the request; it did not take effect. Try again."})
	default:
		x.refuse(&refusal{status: http.StatusServiceUnavailable, outcome: "no_server", text: "No server is available at the moment. Try again."})
	}
}

// gone ends an exchange whose client has left.
func (x *exchange) gone() { x.status, x.outcome, x.cut = statusGone, "client_gone", true }
