// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	crand "crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
)

// remote is a store on a server, correct but for one flaw: a connection for each
// call, sent again until its deadline.
type remote struct {
	addr, flaw string
	spoilt     atomic.Bool // for the flaw that gives up
	closed     chan struct{}
}

func (r *remote) has(flaw string) bool { return r.flaw == flaw }

func (r *remote) call(ctx context.Context, req request) (answer, error) {
	if r.has("gives up for good") && r.spoilt.Load() {
		return answer{}, session.ErrUnavailable
	}
	if !r.has("sends again without saying so") && !(r.has("sends a lock again without saying so") && req.Op == "lock") {
		req.Nonce = crand.Text()
	}
	if req.Op == "load" || req.Op == "epoch" || req.Op == "entries" {
		req.Nonce = "" // to be asked anew
	}
	for {
		a, err := r.once(ctx, req)
		if err == nil {
			return a, nil
		}
		switch {
		case r.has("takes an error for success"):
			return answer{}, nil
		case r.has("takes silence for absence"):
			return answer{}, session.ErrNotFound
		case r.has("invents an error"):
			return answer{}, errors.New("something went wrong")
		case r.has("leaves a goroutine behind"):
			go func() { <-r.closed }()
		case r.has("gives up for good"):
			r.spoilt.Store(true)
			return answer{}, session.ErrUnavailable
		}
		if e := passes(ctx, time.Now().Add(5*time.Millisecond)); e != nil {
			return answer{}, fmt.Errorf("remote: %w: %w: %w", session.ErrUnavailable, e, err)
		}
	}
}

func (r *remote) once(ctx context.Context, req request) (answer, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", r.addr)
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok && !r.has("ignores its deadline") {
		_ = conn.SetDeadline(deadline)
	}
	if !r.has("ignores its deadline") {
		defer context.AfterFunc(ctx, func() { conn.Close() })()
	}
	if err := json.NewEncoder(conn).Encode(req); err != nil {
		return answer{}, err
	}
	var a answer
	if err := json.NewDecoder(conn).Decode(&a); err != nil {
		return answer{}, err
	}
	for _, known := range []error{session.ErrNotFound, session.ErrExists, session.ErrConflict, session.ErrLocked, session.ErrLeaseLost} {
		if a.Err == known.Error() {
			return a, nil
		}
	}
	if a.Err != "" {
		return answer{}, errors.New(a.Err)
	}
	return a, nil
}

// do makes the sentinels of an answer errors.
func (r *remote) do(ctx context.Context, req request) (answer, error) {
	if err := ctx.Err(); err != nil {
		return answer{}, err
	}
	a, err := r.call(ctx, req)
	if err != nil {
		return a, err
	}
	for _, known := range []error{session.ErrNotFound, session.ErrExists, session.ErrConflict, session.ErrLocked, session.ErrLeaseLost} {
		if a.Err == known.Error() {
			return a, known
		}
	}
	return a, nil
}

func (r *remote) Load(ctx context.Context, id session.ID) (session.Record, error) {
	a, err := r.do(ctx, request{Op: "load", ID: id})
	if err != nil {
		return session.Record{}, err
	}
	return session.ParseRecord(a.Rec)
}

func (r *remote) Create(ctx context.Context, id session.ID, rec session.Record) error {
	_, err := r.do(ctx, request{Op: "create", ID: id, Rec: session.AppendRecord(nil, &rec)})
	return err
}

func (r *remote) Update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) error {
	_, err := r.do(ctx, request{Op: "update", ID: id, Rec: session.AppendRecord(nil, &rec), IfRev: ifRev})
	if errors.Is(err, session.ErrNotFound) && r.has("writes again what is missing") {
		return r.Create(ctx, id, rec)
	}
	return err
}

func (r *remote) Touch(ctx context.Context, id session.ID, expires time.Time) error {
	_, err := r.do(ctx, request{Op: "touch", ID: id, Expires: expires})
	return err
}

func (r *remote) Delete(ctx context.Context, ids ...session.ID) error {
	for _, id := range ids {
		_, err := r.do(ctx, request{Op: "delete", ID: id})
		if err != nil && r.has("calls a deletion done that may not be") {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *remote) Ping(ctx context.Context) error {
	if r.has("is always well") {
		return nil
	}
	_, err := r.do(ctx, request{Op: "ping"})
	return err
}

func (r *remote) Index(ctx context.Context, owner string, id session.ID, until time.Time) (session.Entry, error) {
	_, err := r.do(ctx, request{Op: "index", Owner: owner, ID: id, Expires: until})
	return session.Entry{ID: id}, err
}

func (r *remote) Unindex(ctx context.Context, owner string, ids ...session.ID) error {
	for _, id := range ids {
		if _, err := r.do(ctx, request{Op: "unindex", Owner: owner, ID: id}); err != nil {
			return err
		}
	}
	return nil
}

func (r *remote) Entries(ctx context.Context, owner string) ([]session.Entry, error) {
	a, err := r.do(ctx, request{Op: "entries", Owner: owner})
	return a.Entries, err
}

func (r *remote) Epoch(ctx context.Context, owner string) (uint64, error) {
	a, err := r.do(ctx, request{Op: "epoch", Owner: owner})
	return a.Epoch, err
}

func (r *remote) RaiseEpoch(ctx context.Context, owner string) error {
	_, err := r.do(ctx, request{Op: "raise", Owner: owner})
	return err
}

func (r *remote) Lock(ctx context.Context, id session.ID, ttl time.Duration) (session.Lease, error) {
	a, err := r.do(ctx, request{Op: "lock", ID: id, TTL: ttl})
	return a.Lease, err
}

func (r *remote) Extend(ctx context.Context, id session.ID, l session.Lease, ttl time.Duration) error {
	_, err := r.do(ctx, request{Op: "extend", ID: id, Lease: l, TTL: ttl})
	return err
}

func (r *remote) Unlock(ctx context.Context, id session.ID, l session.Lease) error {
	_, err := r.do(ctx, request{Op: "unlock", ID: id, Lease: l})
	return err
}

// faultsOf is the suite on a fresh server, with a flaw in it or in its clients.
func faultsOf(t *testing.T, flaw string) Faults {
	t.Helper()
	s := startServer(t, flaw)
	return Faults{
		Open: func(_ testing.TB, addrs []string) (session.Store, func()) {
			r := &remote{addr: addrs[0], flaw: flaw, closed: make(chan struct{})}
			// The goroutines left behind end with the test, not with the store.
			t.Cleanup(func() { close(r.closed) })
			return r, func() {}
		},
		Servers: []Server{{
			Addr: s.addr, Kill: s.kill, Restart: s.restart, RestartEmpty: s.restartEmpty,
			Freeze: s.freeze, Thaw: s.thaw, Fail: s.fail(true), Heal: s.fail(false),
		}},
		LosesOnEmpty: true,
		ErrorAnswer:  `{"Err":"overloaded"}` + "\n",
		Timeout:      100 * time.Millisecond,
		Seed:         7,
	}.withDefaults()
}

func TestFaultsPassOnACorrectStore(t *testing.T) {
	faultsOf(t, "").Run(t)
}

func TestEveryFaultIsTried(t *testing.T) {
	var names []string
	for _, h := range faultsOf(t, "").harms(0) {
		names = append(names, h.name)
	}
	want := []string{
		"killed", "restarted empty", "frozen", "answering errors", "slow", "silent", "cut off", "requests lost",
		"answers lost", "answered wrongly", "connections reset",
	}
	if !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
}

func TestFaultsCatchEachFlaw(t *testing.T) {
	for flaw, catch := range map[string]struct{ by, says string }{
		"sends again without saying so":             {"lost create", "take his own write for another's"},
		"sends a lock again without saying so":      {"lost lock", "take his own write for another's"},
		"takes an error for success":                {"cut off", ""},
		"takes silence for absence":                 {"cut off", "not found"},
		"writes again what is missing":              {"restarted empty", "gone"},
		"ignores its deadline":                      {"silent", "do not end at their deadline"},
		"gives up for good":                         {"cut off", "no call succeeds"},
		"leaves a goroutine behind":                 {"cut off", "outlives"},
		"invents an error":                          {"cut off", "something went wrong"},
		"calls a deletion done that may not be":     {"cut off", "gone"},
		"is always well":                            {"killed", "ping"},
		"server: the newest writes are not on disk": {"killed", "never deleted"},
		"server: deletions are not on disk":         {"killed", "gone"},
		"server: index and leases are not on disk":  {"killed", ""},
	} {
		t.Run(strings.ReplaceAll(flaw, " ", "_"), func(t *testing.T) {
			t.Parallel()
			f := faultsOf(t, flaw)
			switch flaw {
			case "ignores its deadline", "gives up for good", "leaves a goroutine behind":
				f.Patience = 3 * time.Second // these are seen by what does not happen
			default:
				f.Patience = 30 * time.Second
			}
			// The fault meets whatever calls are under way: the flaw has to show in one
			// of a few, not in each.
			var err error
			for range 5 {
				if err = f.one(t, catch.by); err != nil {
					break
				}
			}
			if err == nil || !strings.Contains(err.Error(), catch.says) {
				t.Errorf("%s: got %v, want something with %q", catch.by, err, catch.says)
			}
		})
	}
}

// one is the outcome of one fault.
func (f Faults) one(t *testing.T, name string) error {
	t.Helper()
	found := make(map[string]func() error)
	for _, h := range f.harms(0) {
		found[h.name] = func() error { return f.harmed(t, h) }
	}
	for _, op := range lostAnswerOps() {
		found["lost "+op.name] = func() error { return f.lostAnswers(t, op) }
	}
	run := found[name]
	if run == nil {
		t.Fatalf("no fault %q among %q", name, slices.Sorted(maps.Keys(found)))
	}
	return run()
}
