// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"time"

	"github.com/belay-ha/belay/cmd/belay/internal/demo/shop"
)

// Op is what a request asks of the shop.
type Op int

// Read changes nothing. Add is a POST that must take effect once; it and Login
// and Logout carry an Idempotency-Key. Put, Remove and Note may be repeated by
// their method. Visit is a POST without a key: nobody may repeat it.
const (
	Read Op = iota
	Login
	Logout
	Add
	Put
	Remove
	Note
	Visit
)

// Repeatable reports whether a gateway may send the request again.
func (o Op) Repeatable() bool { return o != Visit }

// Request is one request of a user.
type Request struct {
	Op   Op
	Item string    // Add, Put, Remove
	Qty  int       // Put
	Text string    // Note
	At   time.Time // when it was sent
}

func (r Request) String() string {
	switch r.Op {
	case Login:
		return "POST /login"
	case Logout:
		return "POST /logout"
	case Add:
		return "POST /cart/" + r.Item + " (with key)"
	case Put:
		return fmt.Sprintf("PUT /cart/%s qty=%d", r.Item, r.Qty)
	case Remove:
		return "DELETE /cart/" + r.Item
	case Note:
		return fmt.Sprintf("PUT /note %q", r.Text)
	case Visit:
		return "POST /visit (without key)"
	default:
		return "GET /api/state"
	}
}

// Answer is what came back.
type Answer struct {
	At     time.Time
	Err    error // no answer at all
	Status int
	Node   string // who answered; empty: the gateway itself
	State  shop.State
	// Unknown: the failed request may have taken effect, the gateway says.
	Unknown bool
}

// Failed reports whether the user did not get what he asked for.
func (a Answer) Failed() bool { return a.Err != nil || a.Status >= 400 || a.Status == 0 }

func (a Answer) why() string {
	if a.Err != nil {
		return a.Err.Error()
	}
	return fmt.Sprintf("status %d", a.Status)
}

// Kind is a way for an answer to be wrong.
type Kind int

// The kinds, in the order of the report.
const (
	// Error: a request that may be repeated failed.
	Error Kind = iota
	// Unknown: a request that may not be repeated was sent and failed. Nobody
	// can know whether it took effect, so it is counted and is no fault.
	Unknown
	// Lost: a change that was acknowledged is missing later.
	Lost
	// Stale: a user saw an older state than he had seen before.
	Stale
	// Revived: the cookie of a session that was logged out is logged in.
	Revived
	// MixedUp: a user got what belongs to another one.
	MixedUp
	// Duplicated: one POST took effect twice.
	Duplicated
	// MovedHealthy: a user was moved off a node that was healthy and not draining.
	MovedHealthy

	kinds
)

func (k Kind) String() string {
	return [kinds]string{"error", "unknown outcome", "lost", "stale", "revived", "mixed up", "duplicated", "moved off a healthy node"}[k]
}

// Violation is one wrong answer, told so that it can be understood.
type Violation struct {
	Kind      Kind
	At        time.Time
	User      string
	Request   string
	Want, Got string
	Node      string
}

func (v Violation) String() string {
	node := v.Node
	if node == "" {
		node = "no node"
	}
	return fmt.Sprintf("%s: %s: user %s, %s, answered by %s: expected %s, got %s",
		v.At.Format("15:04:05.000"), v.Kind, v.User, v.Request, node, v.Want, v.Got)
}
