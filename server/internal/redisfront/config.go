// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisfront

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// Auth is how the front itself logs in to servers. The zero value: not at all.
type Auth struct {
	User     string // empty: the default user
	Password string
	TLS      *tls.Config // nil: no TLS
}

// FailBack says when the group goes back to the node that is preferred as master.
type FailBack struct {
	To    string        // host:port; empty: never
	After time.Duration // its copy has to be complete for so long. Default 1 min
	Every time.Duration // no two planned fail-overs are closer. Default 10 min
}

// Config describes a group and its front. Name, MasterName, Sentinels and one of
// the listeners are required.
type Config struct {
	Name       string // in the log, the status and metrics
	MasterName string // what the sentinels call the group
	Sentinels  []string
	// Listen leads to the master, ListenReplicas to a replica that is at most
	// MaxLag behind, each connection to the next. Empty: no such listener.
	Listen, ListenReplicas string
	MaxLag                 time.Duration // default 2 s; Redis tells it in whole seconds
	// Hold is how long a new connection waits for a master. Default and most 5 s.
	Hold time.Duration
	// Lease is how long a majority's word is good for writes. Default three
	// quarters of the sentinels' down-after, so that it is over before they can
	// promote another node.
	Lease time.Duration
	// Redis and Sentinel are for the front's own questions and for TLS on the
	// connections that it makes for clients, who log in to Redis themselves.
	Redis, Sentinel Auth
	TLS             *tls.Config    // for clients; nil: none
	Allow           []netip.Prefix // clients that may connect; nil: all
	// KeepCopy sets min-replicas-to-write to 1 while both nodes are well, and
	// to 0 once the sentinels have given up the other.
	KeepCopy bool
	FailBack FailBack
	// AllowUnsafePair accepts fewer than three sentinels. What they decide is
	// then no majority that outlives the loss of a machine.
	AllowUnsafePair bool
}

const (
	defaultMaxLag   = 2 * time.Second
	defaultHold     = 5 * time.Second
	defaultFailBack = time.Minute
	defaultEvery    = 10 * time.Minute

	dialTimeout = time.Second
	askTimeout  = 500 * time.Millisecond // a question to a sentinel or a node
	calm        = time.Second            // between two questions while all is well
	alert       = 100 * time.Millisecond // and while it is not
	sweepEvery  = 250 * time.Millisecond // a look for ends that the pumps left open
	minLease    = 300 * time.Millisecond
	firstLease  = time.Second // until the sentinels have told their down-after
)

// complete fills in the defaults, or says everything that is wrong.
func (c Config) complete() (Config, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("redisfront: "+format, args...)) }
	if c.Name == "" {
		bad("name is missing")
	}
	if c.MasterName == "" {
		bad("master_name is missing: it is the name after \"sentinel monitor\" in the sentinels' configuration")
	}
	if c.Listen == "" && c.ListenReplicas == "" {
		bad("no listener: set listen, listen_replicas or both")
	}
	seen := map[string]bool{}
	for _, s := range c.Sentinels {
		if _, _, err := net.SplitHostPort(s); err != nil {
			bad("sentinel %q is not host:port", s)
		}
		if seen[s] {
			bad("sentinel %s is listed twice: its word would count twice", s)
		}
		seen[s] = true
	}
	switch n := len(c.Sentinels); {
	case n == 0:
		bad("no sentinels: list all of them, three or more on different machines")
	case n < 3 && !c.AllowUnsafePair:
		bad("%d sentinels cannot outvote the loss of one: list three or more, or set allow_unsafe_pair: true and read docs/redis.md on what that costs", n)
	}
	if to := c.FailBack.To; to != "" {
		if _, _, err := net.SplitHostPort(to); err != nil {
			bad("fail_back.to %q is not host:port", to)
		}
	}
	for name, d := range map[string]time.Duration{
		"max_lag": c.MaxLag, "hold": c.Hold, "lease": c.Lease, "fail_back.after": c.FailBack.After, "fail_back.every": c.FailBack.Every,
	} {
		if d < 0 {
			bad("%s is negative", name)
		}
	}
	if c.Hold > defaultHold {
		bad("hold is %v: 5s is the most, clients wait no longer", c.Hold)
	}
	or := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	or(&c.MaxLag, defaultMaxLag)
	or(&c.Hold, defaultHold)
	or(&c.FailBack.After, defaultFailBack)
	or(&c.FailBack.Every, defaultEvery)
	return c, errors.Join(errs...)
}

// need is how many sentinels make a majority.
func (c *Config) need() int { return len(c.Sentinels)/2 + 1 }
