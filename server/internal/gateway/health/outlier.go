// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"sync"
	"time"
)

// OutlierRule says when a server that passes its checks is taken out because of
// what its users get.
type OutlierRule struct {
	// Consecutive errors eject at once; zero: never.
	Consecutive int
	// Interval is how often servers are compared with each other.
	Interval time.Duration
	// MinRequests in an interval make a server worth comparing.
	MinRequests int
	// SuccessMargin ejects a server whose share of answers without error is so
	// much lower than that of the others together; zero: never.
	SuccessMargin float64
	// LatencyFactor ejects, softly, a server that takes so many times as long as
	// the others on average, and at least MinLatency; zero: never.
	LatencyFactor float64
	MinLatency    time.Duration
	// An ejection lasts Time, twice that the second time, and so on up to
	// MaxTime. Each interval in which the server was good takes one back.
	Time, MaxTime time.Duration
	// MaxPercent of the servers may be out at a time; one always may, if there is another.
	MaxPercent int
}

// Ejection is the verdict on a server.
type Ejection struct {
	Server string
	Until  time.Time
	Soft   bool   // it is slow, no more: users who are there may stay
	Why    string // consecutive_errors, success_rate or latency
}

// Outliers finds the servers of a pool that serve worse than the others. It is
// pure: the caller says what happened and when. Safe for concurrent use.
type Outliers struct {
	rule OutlierRule

	mu      sync.Mutex
	servers map[string]*record
}

type record struct {
	inRow    int // errors
	requests int
	failed   int
	took     time.Duration
	times    int // ejections that still count
	until    time.Time
}

// NewOutliers returns a judge of servers that it has yet to hear of.
func NewOutliers(rule OutlierRule) *Outliers {
	return &Outliers{rule: rule, servers: map[string]*record{}}
}

// Observe counts one answer, and returns an ejection if it was one error too many.
// size is how many servers the pool has.
func (o *Outliers) Observe(server string, failed bool, took time.Duration, size int, now time.Time) (Ejection, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := o.servers[server]
	if r == nil {
		r = &record{}
		o.servers[server] = r
	}
	r.requests++
	r.took += took
	if !failed {
		r.inRow = 0
		return Ejection{}, false
	}
	r.failed++
	r.inRow++
	if o.rule.Consecutive == 0 || r.inRow < o.rule.Consecutive || now.Before(r.until) {
		return Ejection{}, false
	}
	return o.eject(server, r, "consecutive_errors", size, now)
}

// Compare ends an interval: it returns the servers that were worse than the rest.
func (o *Outliers) Compare(size int, now time.Time) (list []Ejection) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all record
	for _, r := range o.servers {
		if r.requests >= o.rule.MinRequests {
			all.requests += r.requests
			all.failed += r.failed
			all.took += r.took
		}
	}
	for name, r := range o.servers {
		if r.requests == 0 || now.Before(r.until) {
			continue
		}
		why := o.worse(r, &all)
		if why == "" {
			r.times = max(0, r.times-1)
			continue
		}
		if e, ok := o.eject(name, r, why, size, now); ok {
			e.Soft = why == "latency"
			list = append(list, e)
		}
	}
	for _, r := range o.servers {
		r.requests, r.failed, r.took = 0, 0, 0
	}
	return list
}

func (o *Outliers) worse(r, all *record) string {
	rest := record{requests: all.requests - r.requests, failed: all.failed - r.failed, took: all.took - r.took}
	if r.requests < o.rule.MinRequests || rest.requests <= 0 {
		return ""
	}
	good := func(r *record) float64 { return 1 - float64(r.failed)/float64(r.requests) }
	mean := func(r *record) time.Duration { return r.took / time.Duration(r.requests) }
	switch {
	case o.rule.SuccessMargin > 0 && good(r) < good(&rest)-o.rule.SuccessMargin:
		return "success_rate"
	case o.rule.LatencyFactor > 0 && mean(r) >= o.rule.MinLatency && float64(mean(r)) > o.rule.LatencyFactor*float64(mean(&rest)):
		return "latency"
	}
	return ""
}

func (o *Outliers) eject(server string, r *record, why string, size int, now time.Time) (Ejection, bool) {
	out := 0
	for _, other := range o.servers {
		if now.Before(other.until) {
			out++
		}
	}
	if out+1 > max(1, size*o.rule.MaxPercent/100) || out+1 >= size {
		return Ejection{}, false
	}
	r.times++
	r.inRow = 0
	r.until = now.Add(min(o.rule.MaxTime, o.rule.Time*time.Duration(r.times)))
	return Ejection{Server: server, Until: r.until, Why: why}, true
}

// Forget drops what is known of a server that was taken out of the pool.
func (o *Outliers) Forget(server string) {
	o.mu.Lock()
	delete(o.servers, server)
	o.mu.Unlock()
}
