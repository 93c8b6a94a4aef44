// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"
)

// Options say whom to check and how hard.
type Options struct {
	// Gateway is the base URL that users talk to. Required.
	Gateway string
	// Nodes are the base URLs of the shops, where old cookies are replayed, by
	// node name.
	Nodes map[string]string
	// Users work at the same time. Default 56.
	Users int
	// Pause is the mean time between two requests of a user. Default 260 ms.
	Pause time.Duration
	// Timeline is where the caller notes what he does to the nodes. Required.
	Timeline *Timeline
	// Seed makes two runs ask the same things, each user in the same order.
	Seed uint64
	// Violations is how many are kept in detail. Default 10.
	Violations int
	// Dial opens connections. Default: net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

const (
	requestTimeout = 15 * time.Second
	replayTimeout  = time.Second
	// logoutGrace is how long a node may go on serving a session that was logged
	// out: the library's MaxStale.
	logoutGrace = 2 * time.Second
)

// Checker is the users of one check.
type Checker struct {
	o Options

	mu     sync.Mutex
	report Report
	dead   []deadCookie
}

// New prepares a check.
func New(o Options) (*Checker, error) {
	if o.Gateway == "" || o.Timeline == nil {
		return nil, errors.New("check: New needs a gateway and a timeline")
	}
	if o.Users == 0 {
		o.Users = 56
	}
	if o.Pause == 0 {
		o.Pause = 260 * time.Millisecond
	}
	if o.Violations == 0 {
		o.Violations = 10
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Timeout: 5 * time.Second}).DialContext
	}
	return &Checker{o: o, report: Report{maxViolations: o.Violations}}, nil
}

// Run lets the users work until enough is closed. Then each finishes what he
// does, looks once more at what he has, and logs out, and all old cookies are
// replayed. It returns what was found so far if ctx ends before.
func (c *Checker) Run(ctx context.Context, enough <-chan struct{}) Report {
	var users, replays sync.WaitGroup
	over := make(chan struct{})
	replays.Go(func() { c.replayWhileWorking(ctx, over) })
	for i := range c.o.Users {
		rng := rand.New(rand.NewPCG(c.o.Seed, uint64(i)))
		users.Go(func() { c.newUser(i, rng).work(ctx, enough) })
	}
	users.Wait()
	close(over)
	replays.Wait()
	if ctx.Err() == nil {
		c.replayAll(ctx)
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.report
	r.KillRequests, r.KillSlowest = c.o.Timeline.sum(Kill)
	r.FreezeRequests, r.FreezeSlowest = c.o.Timeline.sum(Freeze)
	_, r.DrainSlowest = c.o.Timeline.sum(Drain)
	return r
}

// note adds the result of one request.
func (c *Checker) note(vs []Violation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Requests++
	for _, v := range vs {
		c.report.add(v)
	}
}

func (c *Checker) transport() *http.Transport {
	return &http.Transport{DialContext: c.o.Dial, MaxIdleConnsPerHost: 2, DisableCompression: true}
}

// pause waits about d, or until one of the others happens.
func pause(ctx context.Context, d time.Duration, enough <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-enough:
	case <-ctx.Done():
	}
}
