// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// Names used between the gateway and the session library. The gateway removes
// these headers from what clients send.
const (
	// HeaderAttempt carries an Attempt with a request. On an answer it says
	// why the library did not let the request take effect: AttemptRefused or
	// AttemptExpired.
	HeaderAttempt = "Belay-Attempt"
	// HeaderProbe carries a Probe; the library's answer repeats the holder.
	HeaderProbe = "Belay-Probe"
	// HeaderDrain with a probe asks the library to bring to the store what it
	// holds, since the users of this server are to go elsewhere. On the answer
	// it is the number of sessions that the store does not have yet.
	HeaderDrain = "Belay-Drain"
	// ProbePath is answered by the session middleware itself.
	ProbePath = "/.well-known/belay-probe"
)

// Values of HeaderAttempt on an answer with status 503.
const (
	AttemptRefused = "refused" // past its deadline before the handler ran
	AttemptExpired = "expired" // past its deadline before the commit: the session was not changed
)

// What an app server may say of itself in the answer to a health check. Both are
// whole numbers of percent, from 0 to 100; anything else is not looked at.
const (
	// HeaderWeight is the share of new users that it wants, of the weight that
	// is configured; with 0 it keeps the users it has, and gets no new ones.
	HeaderWeight = "Belay-Weight"
	// HeaderLoad is how much of what it can do it does already: at 75 it gets a
	// quarter of the new users that its weight would give it.
	HeaderLoad = "Belay-Load"
)

// ParsePercent reads a HeaderWeight or HeaderLoad.
func ParsePercent(s string) (int, bool) {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 8)
	return int(n), err == nil && n <= 100
}

// ErrAttempt is returned for a malformed attempt or probe header.
var ErrAttempt = errors.New("wire: malformed attempt header")

const maxHolder = 64

// Attempt names one try at forwarding one request, and the moment after which
// it must not take effect any more. Wire form: holder;id;unix-milliseconds.
type Attempt struct {
	// Holder is who may renew the attempt: an unguessable name that a gateway
	// keeps for as long as it trusts the server it sends to.
	Holder   string
	ID       uint64
	Deadline time.Time // wall clock, millisecond resolution
}

func (a Attempt) String() string {
	b := make([]byte, 0, 64)
	b = append(append(b, a.Holder...), ';')
	b = append(strconv.AppendUint(b, a.ID, 10), ';')
	return string(strconv.AppendInt(b, a.Deadline.UnixMilli(), 10))
}

// ParseAttempt reads a HeaderAttempt of a request.
func ParseAttempt(s string) (Attempt, error) {
	holder, rest, _ := strings.Cut(s, ";")
	id, ms, ok := strings.Cut(rest, ";")
	if !ok || !validHolder(holder) {
		return Attempt{}, ErrAttempt
	}
	n, err1 := strconv.ParseUint(id, 10, 64)
	d, err2 := strconv.ParseInt(ms, 10, 64)
	if err1 != nil || err2 != nil {
		return Attempt{}, ErrAttempt
	}
	return Attempt{Holder: holder, ID: n, Deadline: time.UnixMilli(d)}, nil
}

// Probe asks whether a server is alive, and may renew attempts. Wire form:
// holder, or holder;unix-milliseconds;id,id,…
type Probe struct {
	Holder string
	// Deadline is the new deadline of every attempt of Holder in flight that
	// has not expired; zero: only ask.
	Deadline time.Time
	// Except names attempts that the holder has given up and must not live on.
	Except []uint64
}

func (p Probe) String() string {
	b := append(make([]byte, 0, 64), p.Holder...)
	if p.Deadline.IsZero() {
		return string(b)
	}
	b = strconv.AppendInt(append(b, ';'), p.Deadline.UnixMilli(), 10)
	b = append(b, ';')
	for i, id := range p.Except {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, id, 10)
	}
	return string(b)
}

// ParseProbe reads a HeaderProbe of a request.
func ParseProbe(s string) (Probe, error) {
	holder, rest, renew := strings.Cut(s, ";")
	if !validHolder(holder) {
		return Probe{}, ErrAttempt
	}
	p := Probe{Holder: holder}
	if !renew {
		return p, nil
	}
	ms, ids, ok := strings.Cut(rest, ";")
	d, err := strconv.ParseInt(ms, 10, 64)
	if !ok || err != nil {
		return Probe{}, ErrAttempt
	}
	p.Deadline = time.UnixMilli(d)
	if ids == "" {
		return p, nil
	}
	for id := range strings.SplitSeq(ids, ",") {
		n, err := strconv.ParseUint(id, 10, 64)
		if err != nil {
			return Probe{}, ErrAttempt
		}
		p.Except = append(p.Except, n)
	}
	return p, nil
}

func validHolder(s string) bool {
	return s != "" && len(s) <= maxHolder && urlSafe(s)
}
