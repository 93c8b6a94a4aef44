// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-ha/belay/session"
)

// Config says what the suite may do with a store. The zero value suits a store
// on a real server.
type Config struct {
	// FakeClock: the store judges expiry by package time alone and does no I/O,
	// so that everything about time runs in a synctest bubble and takes no time.
	// The store is then opened inside the bubble.
	FakeClock bool
	// Schedules is how many random schedules and operation lists are tried.
	// Default 20.
	Schedules int
	// Seed of all randomness but the IDs. A failure names the seed to put here.
	// Default: a new one each time.
	Seed uint64
	// MaxValue is the size in bytes of the largest attribute value written.
	// Default 256 KiB.
	MaxValue int
	// Many is how many sessions are deleted, or listed for one owner, at once.
	// Default 2000, with -short 1100.
	Many int
	// NoReuse: the store remembers what was deleted, so that a copy left somewhere
	// is not taken for alive. It is not asked to create a session anew under such
	// an ID, which no Manager does.
	NoReuse bool

	limit int  // see RunLimit
	full  Full // see RunFull
}

const (
	defaultSchedules = 20
	defaultMaxValue  = 256 << 10
	defaultMany      = 2000
	shortMany        = 1100
	// patience bounds one check, so that a store that hangs fails.
	patience = time.Minute
)

// Run tests the store that open returns with the default Config. open is called
// once for each check and may return the same store each time.
func Run(t *testing.T, open func(t *testing.T) session.Store) {
	t.Helper()
	Config{}.Run(t, open)
}

// Run is like the function Run, with this Config.
func (c Config) Run(t *testing.T, open func(t *testing.T) session.Store) {
	t.Helper()
	c = c.withDefaults()
	bare := func(t *testing.T) session.Store { return hidden{open(t)} }
	t.Run("contract", func(t *testing.T) { c.group(t, contractChecks(), open) })
	t.Run("contract_without_capabilities", func(t *testing.T) { c.group(t, contractChecks(), bare) })
	t.Run("expiry", func(t *testing.T) { c.group(t, expiryChecks(), open) })
	t.Run("concurrency", func(t *testing.T) { c.group(t, raceChecks(), open) })
	t.Run("bulk", func(t *testing.T) { c.group(t, bulkChecks(), open) })
	t.Run("model", func(t *testing.T) { c.group(t, modelChecks(), open) })
	if patches(t.Context(), open(t)) { // else there is nothing to check
		t.Run("patch", func(t *testing.T) { c.group(t, patchChecks(), open) })
	}
	if watches(t.Context(), open(t)) {
		t.Run("watch", func(t *testing.T) { c.group(t, watchChecks(), open) })
	}
	if _, ok := session.Capability[session.Locker](open(t)); ok {
		t.Run("lock", func(t *testing.T) { c.group(t, lockChecks(), open) })
	}
	if _, ok := session.Capability[session.Indexer](open(t)); ok {
		t.Run("index", func(t *testing.T) { c.group(t, append(indexChecks(), bulkIndexChecks()...), open) })
	}
}

func (c Config) withDefaults() Config {
	if c.Schedules == 0 {
		c.Schedules = defaultSchedules
	}
	if c.MaxValue == 0 {
		c.MaxValue = defaultMaxValue
	}
	if c.Many == 0 {
		c.Many = defaultMany
		if testing.Short() {
			c.Many = shortMany
		}
	}
	if c.Seed == 0 {
		c.Seed = freshSeed()
	}
	return c
}

func (c Config) group(t *testing.T, checks []check, open func(t *testing.T) session.Store) {
	for _, k := range checks {
		t.Run(k.name, func(t *testing.T) {
			if !c.FakeClock {
				t.Parallel() // they mostly wait for the server, or for an expiry
			}
			k.inClock(t, c, func(t *testing.T) {
				if err := k.try(t.Context(), c, open(t)); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A check returns what it found wrong instead of telling a *testing.T, so that
// the suite can be tried on stores that must fail it.
type check struct {
	name  string
	timed bool // lets time pass
	run   func(ctx context.Context, c *trial) error
}

// trial is one run of one check.
type trial struct {
	Config
	store session.Store
	rng   *rand.Rand
	noise []byte // see large
}

func (k check) inClock(t *testing.T, c Config, f func(t *testing.T)) {
	t.Helper()
	if c.FakeClock && k.timed {
		synctest.Test(t, f)
		return
	}
	f(t)
}

func (k check) try(ctx context.Context, c Config, s session.Store) error {
	if !c.FakeClock || !k.timed { // in a bubble an hour passes at once
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	err := k.run(ctx, &trial{Config: c, store: s, rng: rand.New(rand.NewPCG(c.Seed, 0))})
	if err != nil {
		return fmt.Errorf("%w\n(storetest.Config.Seed was %d)", err, c.Seed)
	}
	return nil
}

// hidden is a store of which nothing is left but the five verbs.
type hidden struct{ s session.Store }

func (h hidden) Load(ctx context.Context, id session.ID) (session.Record, error) {
	return h.s.Load(ctx, id)
}

func (h hidden) Create(ctx context.Context, id session.ID, rec session.Record) error {
	return h.s.Create(ctx, id, rec)
}

func (h hidden) Update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) error {
	return h.s.Update(ctx, id, rec, ifRev)
}

func (h hidden) Touch(ctx context.Context, id session.ID, expires time.Time) error {
	return h.s.Touch(ctx, id, expires)
}

func (h hidden) Delete(ctx context.Context, ids ...session.ID) error {
	return h.s.Delete(ctx, ids...)
}

func freshSeed() uint64 {
	var b [8]byte
	crand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:])>>1 | 1 // never 0, and a plain int
}

// newID is random even under a fixed seed: a store may remember earlier runs.
func newID() session.ID {
	var id session.ID
	crand.Read(id.Hash[:])
	id.Generation = id.Hash[0]
	return id
}
