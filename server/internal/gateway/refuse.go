// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"io"
	"net/http"
	"strconv"
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
}

func unknown(status int, text, outcome string) *refusal {
	return &refusal{
		status: status, outcome: outcome, unknown: true,
		text: text + " The outcome is unknown: the request may or may not have taken effect.",
	}
}

func (x *exchange) refuse(f *refusal) {
	h := x.w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if f.unknown {
		h.Set(HeaderOutcome, "unknown")
	}
	if f.status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	text := f.text + "\n"
	h.Set("Content-Length", strconv.Itoa(len(text)))
	x.status, x.outcome = f.status, f.outcome
	x.w.WriteHeader(f.status)
	if x.r.Method != http.MethodHead {
		n, _ := io.WriteString(x.w, text)
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

func (x *exchange) badBody() {
	if x.ctx.Err() != nil {
		x.gone()
		return
	}
	x.w.Header().Set("Connection", "close") // where the next request would begin is unknown
	x.refuse(&refusal{status: http.StatusBadRequest, outcome: "bad_body", text: "The body of the request is malformed or was cut off."})
}
