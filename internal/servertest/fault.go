// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package servertest

import (
	"fmt"
	"time"
)

// Mode is what a relay does with the bytes that reach it.
type Mode int

const (
	// Pass hands everything on.
	Pass Mode = iota
	// Slow hands everything on after Fault.Delay, connecting included.
	Slow
	// Silent accepts and says nothing. What was sent meanwhile is handed on
	// afterwards, as a network does that comes back.
	Silent
	// Cut resets every connection, and each new one as soon as it is made.
	Cut
	// LoseRequests loses what clients send. A connection that lost something is
	// reset when the fault ends, so no half request is ever handed on.
	LoseRequests
	// LoseAnswers loses what servers send, but for the first Fault.After pieces;
	// what clients asked for is carried out.
	LoseAnswers
	// Answer hands nothing on, and answers each piece with Fault.Text.
	Answer
)

func (m Mode) String() string {
	return [...]string{"pass", "slow", "silent", "cut off", "requests lost", "answers lost", "answered wrongly"}[m]
}

// Fault is what a Relay does to connections. The zero value disturbs nothing.
type Fault struct {
	Mode  Mode
	Delay time.Duration // of Slow, for each piece and each way
	After int           // of LoseAnswers
	Text  string        // of Answer
}

func (f Fault) String() string {
	switch f.Mode {
	case Slow:
		return fmt.Sprintf("slow by %v", f.Delay)
	case LoseAnswers:
		return fmt.Sprintf("answers lost after %d", f.After)
	case Answer:
		return fmt.Sprintf("answered with %q", f.Text)
	default:
		return f.Mode.String()
	}
}
