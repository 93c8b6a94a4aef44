// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belay-ha/belay/internal/wire"
)

// fence knows the attempts in flight that came with a deadline. A process that
// was frozen still runs, when it wakes up, the requests it had; by then they
// were sent to another server. What stops it is that each carries the wall-clock
// moment after which it must not take effect, and that only an attempt that has
// not expired can be renewed.
type fence struct {
	mu       sync.Mutex
	inFlight map[string]map[*attempt]struct{} // by holder
}

type attempt struct {
	wire.Attempt
	deadline atomic.Int64 // Unix milliseconds
}

func (a *attempt) expired() bool { return time.Now().UnixMilli() > a.deadline.Load() }

func (f *fence) enter(w wire.Attempt) *attempt {
	a := &attempt{Attempt: w}
	a.deadline.Store(w.Deadline.UnixMilli())
	f.mu.Lock()
	defer f.mu.Unlock()
	set := f.inFlight[a.Holder]
	if set == nil {
		if f.inFlight == nil {
			f.inFlight = make(map[string]map[*attempt]struct{})
		}
		set = make(map[*attempt]struct{})
		f.inFlight[a.Holder] = set
	}
	set[a] = struct{}{}
	return a
}

func (f *fence) leave(a *attempt) {
	f.mu.Lock()
	defer f.mu.Unlock()
	set := f.inFlight[a.Holder]
	if delete(set, a); len(set) == 0 {
		delete(f.inFlight, a.Holder)
	}
}

// renew gives the holder's attempts a later deadline. A probe that is read late
// changes nothing: its deadline has passed, and so has theirs.
func (f *fence) renew(p wire.Probe) {
	to := p.Deadline.UnixMilli()
	f.mu.Lock()
	defer f.mu.Unlock()
	for a := range f.inFlight[p.Holder] {
		if old := a.deadline.Load(); to > old && !a.expired() && !slices.Contains(p.Except, a.ID) {
			a.deadline.Store(to)
		}
	}
}

// serveProbe answers a gateway that asks whether this process is alive.
func (f *fence) serveProbe(w http.ResponseWriter, r *http.Request) {
	p, err := wire.ParseProbe(r.Header.Get(wire.HeaderProbe))
	if err != nil {
		http.Error(w, "malformed "+wire.HeaderProbe+" header", http.StatusBadRequest)
		return
	}
	if !p.Deadline.IsZero() {
		f.renew(p)
	}
	w.Header().Set(wire.HeaderProbe, p.Holder)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
}
