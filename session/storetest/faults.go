// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
)

// Server is one server of a store, as far as a test may harm it. What is nil is
// not done to it. The functions must have had their effect when they return.
type Server struct {
	// Addr is the host:port at which it listens. The store is given another one
	// instead, of a relay that harms the connections. Empty: they are not harmed.
	Addr string
	// Kill ends the server at once. Restart starts it again with what it has on
	// disk, RestartEmpty with nothing; both are called after Kill.
	Kill, Restart, RestartEmpty func()
	// Freeze makes the server accept connections and do nothing, until Thaw.
	Freeze, Thaw func()
	// Fail makes it answer errors, until Heal: like a disk or a memory that is full.
	Fail, Heal func()
}

// Faults is the suite of what a store does while one of its servers is harmed.
// A store that passes keeps every call within its deadline, says of an error
// whether the outcome is known, loses no write that it acknowledged and brings
// nothing back that it deleted; it goes on by itself when the server is well
// again, and leaves nothing behind when it is closed. What it can do besides is
// held to the same.
//
// One fault is tried after another, each on sessions and connections of its own.
// The zero value of each field but Open is its default.
type Faults struct {
	// Open returns a store whose servers are at addrs, one for each of Servers, and
	// what closes it. It is called once or twice for each fault.
	Open func(t testing.TB, addrs []string) (store session.Store, closeStore func())
	// Servers are harmed one at a time.
	Servers []Server
	// Ready returns once all servers are well; it is called before each fault.
	Ready func()

	// LosesOnKill: sessions may be missing after a server was killed and started
	// again: it is the only one, and keeps nothing on disk. Default: none may.
	LosesOnKill bool
	// LosesOnEmpty: sessions may be missing after a server came back empty. Default:
	// others have them all.
	LosesOnEmpty bool
	// LosesTouches: what a touch wrote may be missing after a server was killed or
	// frozen.
	LosesTouches bool
	// Serves: while one server is away the others serve, after a while. Default:
	// calls may fail for as long.
	Serves bool

	// ErrorAnswer is an error of the server in its protocol, with which a relay
	// answers everything once. Empty: it does not.
	ErrorAnswer string
	// Timeout of each call while a server is harmed. Default 500 ms.
	Timeout time.Duration
	// Patience is how long the suite waits for what must happen, without asking how
	// soon it does. Default 1 min.
	Patience time.Duration
	// Seed of all randomness but the IDs. A failure names the seed to put here.
	// Default: a new one each time.
	Seed uint64
}

const defaultFaultTimeout = 500 * time.Millisecond

// Run tries every fault that Servers allow.
func (f Faults) Run(t *testing.T) {
	t.Helper()
	f = f.withDefaults()
	for i := range f.Servers {
		name := "faults"
		if len(f.Servers) > 1 {
			name = fmt.Sprintf("faults_of_server_%d", i+1)
		}
		t.Run(name, func(t *testing.T) {
			for _, h := range f.harms(i) {
				t.Run(strings.ReplaceAll(h.name, " ", "_"), func(t *testing.T) { f.check(t, func() error { return f.harmed(t, h) }) })
			}
		})
	}
	if len(f.relayed()) > 0 {
		t.Run("lost_answers", func(t *testing.T) {
			for _, op := range lostAnswerOps() {
				t.Run(op.name, func(t *testing.T) { f.check(t, func() error { return f.lostAnswers(t, op) }) })
			}
		})
	}
}

func (f Faults) check(t *testing.T, run func() error) {
	t.Helper()
	if err := run(); err != nil {
		t.Errorf("%v\n(storetest.Faults.Seed was %d)", err, f.Seed)
	}
}

func (f Faults) withDefaults() Faults {
	if f.Timeout == 0 {
		f.Timeout = defaultFaultTimeout
	}
	if f.Patience == 0 {
		f.Patience = patience
	}
	if f.Seed == 0 {
		f.Seed = freshSeed()
	}
	return f
}

// relayed are the numbers of the servers whose connections can be harmed.
func (f Faults) relayed() []int {
	var n []int
	for i, s := range f.Servers {
		if s.Addr != "" {
			n = append(n, i)
		}
	}
	return n
}

// harm is one fault of one server.
type harm struct {
	name       string
	server     int
	begin, end func(r *servertest.Relay)
	loses      bool // sessions may be missing afterwards
	touches    bool // touches may
	away       bool // nothing of the server can be reached meanwhile
	slow       bool // calls succeed all the same
}

func (f Faults) harms(i int) []harm {
	s := f.Servers[i]
	call := func(fn func()) func(*servertest.Relay) { return func(*servertest.Relay) { fn() } }
	var list []harm
	add := func(h harm, there ...func()) {
		for _, fn := range there {
			if fn == nil {
				return
			}
		}
		h.server = i
		list = append(list, h)
	}
	add(harm{name: "killed", begin: call(s.Kill), end: call(s.Restart), loses: f.LosesOnKill, touches: f.LosesTouches, away: true}, s.Kill, s.Restart)
	add(harm{name: "restarted empty", begin: call(s.Kill), end: call(s.RestartEmpty), loses: f.LosesOnEmpty, touches: f.LosesTouches, away: true}, s.Kill, s.RestartEmpty)
	add(harm{name: "frozen", begin: call(s.Freeze), end: call(s.Thaw), touches: f.LosesTouches, away: true}, s.Freeze, s.Thaw)
	add(harm{name: "answering errors", begin: call(s.Fail), end: call(s.Heal)}, s.Fail, s.Heal)
	if s.Addr == "" {
		return list
	}
	relay := func(fault servertest.Fault, h harm) {
		h.name, h.server = fault.Mode.String(), i
		h.begin = func(r *servertest.Relay) { r.Set(fault) }
		h.end = func(r *servertest.Relay) { r.Restore() }
		list = append(list, h)
	}
	relay(servertest.Fault{Mode: servertest.Slow, Delay: 20 * time.Millisecond}, harm{slow: true})
	relay(servertest.Fault{Mode: servertest.Silent}, harm{away: true})
	relay(servertest.Fault{Mode: servertest.Cut}, harm{away: true})
	relay(servertest.Fault{Mode: servertest.LoseRequests}, harm{away: true})
	relay(servertest.Fault{Mode: servertest.LoseAnswers}, harm{away: true})
	if f.ErrorAnswer != "" {
		relay(servertest.Fault{Mode: servertest.Answer, Text: f.ErrorAnswer}, harm{away: true})
	}
	list = append(list, harm{
		name: "connections reset", server: i, slow: true,
		begin: func(r *servertest.Relay) { r.Reset() }, end: func(*servertest.Relay) {},
	})
	return list
}

// relays stand before all servers that have an address.
func (f Faults) relays(t testing.TB) (relays []*servertest.Relay, addrs []string) {
	t.Helper()
	for _, s := range f.Servers {
		var r *servertest.Relay
		addr := ""
		if s.Addr != "" {
			r = servertest.StartRelay(t, s.Addr)
			addr = r.Addr()
		}
		relays, addrs = append(relays, r), append(addrs, addr)
	}
	return relays, addrs
}

// harmed is one fault, from well to well.
func (f Faults) harmed(t testing.TB, h harm) error {
	t.Helper()
	if f.Ready != nil {
		f.Ready()
	}
	relays, addrs := f.relays(t)
	relay := relays[h.server]
	return leavesNothing(t.Context(), f.Patience, func(ctx context.Context) error {
		store, closeStore := f.Open(t, addrs)
		defer closeStore()
		return f.through(ctx, store, h, relay)
	})
}

// through keeps actors at work before, during and after a fault.
func (f Faults) through(ctx context.Context, store session.Store, h harm, relay *servertest.Relay) error {
	cast := newCast(ctx, f, store)
	// Whatever happens, the fault ends and the actors leave.
	var harmed bool
	mend := func() {
		if harmed {
			harmed = false
			apart(ctx, func() { h.end(relay) })
		}
	}
	defer func() {
		mend()
		cast.stop()
	}()
	if err := cast.await("before the fault", f.Patience, succeeded(10)); err != nil {
		return err
	}
	cast.lossy.Store(h.loses)
	cast.losesTouches.Store(h.touches)
	harmed = true
	apart(ctx, func() { h.begin(relay) })
	reached := ended(3)
	if f.Serves || h.slow {
		reached = succeeded(3)
	}
	if err := cast.await("during the fault: "+h.name, f.Patience, reached); err != nil {
		return err
	}
	if h.away && !f.Serves && len(f.Servers) == 1 && f.Servers[0].Addr != "" {
		if err := pingFails(ctx, f, store); err != nil {
			return err
		}
	}
	mend()
	if err := cast.await("after the fault: "+h.name, f.Patience, succeeded(5)); err != nil {
		return err
	}
	if err := pingWorks(ctx, f, store); err != nil {
		return err
	}
	if err := cast.stop(); err != nil {
		return err
	}
	return cast.verify(ctx)
}

func pingFails(ctx context.Context, f Faults, store session.Store) error {
	p, ok := session.Capability[session.Pinger](store)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	if err := p.Ping(ctx); !documented(err) {
		return fmt.Errorf("ping while the server is away: got error %v, want ErrUnavailable", err)
	}
	return nil
}

func pingWorks(ctx context.Context, f Faults, store session.Store) error {
	p, ok := session.Capability[session.Pinger](store)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, f.Patience)
	defer cancel()
	for {
		err := p.Ping(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if err := passes(ctx, time.Now().Add(10*time.Millisecond)); err != nil {
			return err
		}
	}
}
