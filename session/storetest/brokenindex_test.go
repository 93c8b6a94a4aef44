// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"time"

	"github.com/belay-ha/belay/session"
)

// flawedLimit bounds the attributes of a record of a flawed store.
const flawedLimit = 300_000

// tooLarge reports whether a record is not written, and what is then said.
func (f *flawed) tooLarge(id session.ID, rec *session.Record) (done bool, err error) {
	size := 0
	for _, a := range rec.Attrs {
		size += len(a.Value)
	}
	if size == flawedLimit && f.has("just fits is lost") {
		delete(f.recs, id)
		return true, nil
	}
	if size <= flawedLimit {
		return false, nil
	}
	switch f.flaw {
	case "too large is dropped":
		return true, nil
	case "too large is cut":
		v, _ := rec.Attrs.Get("v")
		rec.Attrs = rec.Attrs.With("v", v[:len(v)-(size-flawedLimit)])
		return false, nil
	case "too large is another error":
		return true, errors.New("connection closed")
	case "too large removes what was":
		delete(f.recs, id)
	}
	return true, session.ErrTooLarge
}

type flawedOwner struct {
	entries []session.Entry
	seq     uint64
	epoch   uint64
}

func (f *flawed) owner(name string) *flawedOwner {
	if f.has("index mixes owners") {
		name = name[:10]
	}
	o := f.owners[name]
	if o == nil {
		o = &flawedOwner{}
		f.owners[name] = o
	}
	return o
}

// slip lets others in while mu is held.
func (f *flawed) slip() {
	f.mu.Unlock()
	for range 20 {
		runtime.Gosched()
	}
	f.mu.Lock()
}

func (f *flawed) Index(_ context.Context, owner string, id session.ID, _ time.Time) (session.Entry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.owner(owner)
	if i := slices.IndexFunc(o.entries, func(e session.Entry) bool { return e.ID == id }); i >= 0 {
		if f.has("index moves nothing") {
			return o.entries[i], nil
		}
		o.entries = slices.Delete(o.entries, i, i+1)
	}
	o.seq++
	if f.has("index gives numbers twice") && o.seq > 5 {
		o.seq = 5
	}
	e := session.Entry{ID: id, Seq: o.seq, Added: time.Now()}
	if f.has("index numbers before it writes") {
		f.slip()
	}
	o.entries = append(o.entries, e)
	slices.SortStableFunc(o.entries, func(a, b session.Entry) int { return int(a.Seq) - int(b.Seq) })
	return e, nil
}

func (f *flawed) Unindex(_ context.Context, owner string, ids ...session.ID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.owner(owner)
	switch {
	case len(ids) > 1 && f.has("unindex stops after the first"):
		ids = ids[:1]
	case len(ids) > 1000 && f.has("unindex stops after a thousand"):
		ids = ids[:1000]
	}
	gone := make(map[session.ID]bool)
	for _, id := range ids {
		gone[id] = true
	}
	o.entries = slices.DeleteFunc(o.entries, func(e session.Entry) bool { return gone[e.ID] })
	return nil
}

func (f *flawed) Entries(_ context.Context, owner string) ([]session.Entry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.owner(owner)
	list := slices.Clone(o.entries)
	if f.has("entries are pages by offset") {
		list = nil
		for len(list) < len(o.entries) {
			list = append(list, o.entries[len(list):min(len(list)+4, len(o.entries))]...)
			f.slip()
		}
	}
	if len(list) > 1000 && f.has("entries stop at a thousand") {
		list = list[:1000]
	}
	return list, nil
}

func (f *flawed) Epoch(_ context.Context, owner string) (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.owner(owner).epoch, nil
}

func (f *flawed) RaiseEpoch(_ context.Context, owner string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if o := f.owner(owner); o.epoch == 0 || !f.has("the epoch stays") {
		o.epoch++
	}
	return nil
}

type flawedLease struct {
	lease session.Lease
	ends  time.Time
}

func (f *flawed) leased(id session.ID) (flawedLease, bool) {
	l, ok := f.leases[id]
	return l, ok && (l.ends.After(time.Now()) || f.has("leases never run out"))
}

func (f *flawed) Lock(_ context.Context, id session.ID, ttl time.Duration) (session.Lease, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, taken := f.leased(id)
	if f.has("lock checks outside its lock") {
		f.slip()
	}
	if taken && !f.has("lock takes what is taken") {
		return 0, session.ErrLocked
	}
	f.lease++
	if f.has("leases are numbered anew") && f.lease > 2 {
		f.lease = 1
	}
	f.leases[id] = flawedLease{f.lease, time.Now().Add(ttl)}
	return f.lease, nil
}

func (f *flawed) Extend(_ context.Context, id session.ID, l session.Lease, ttl time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if has, ok := f.leased(id); !ok || has.lease != l {
		return session.ErrLeaseLost
	}
	f.leases[id] = flawedLease{l, time.Now().Add(ttl)}
	return nil
}

func (f *flawed) Unlock(_ context.Context, id session.ID, l session.Lease) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if has, ok := f.leased(id); ok && (has.lease == l || f.has("unlock takes any lease")) {
		delete(f.leases, id)
	}
	return nil
}
