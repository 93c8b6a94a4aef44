// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/belay-ha/belay/bench/internal/peer"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
	"github.com/belay-ha/belay/session/pebblestore"
)

// encoded is the size of a record in the wire form.
const encoded = 2000

// record is one of that many encoded bytes, which cannot be compressed.
func record(size int) session.Record {
	now := time.Now().Truncate(time.Millisecond)
	rec := session.Record{
		Rev: session.Rev{Term: 1, N: 1}, Created: now, Seen: now, Issued: now,
		Expires: now.Add(time.Hour), Ends: now.Add(12 * time.Hour),
	}
	empty := len(session.AppendRecord(nil, withValue(rec, nil)))
	value := make([]byte, max(0, size-empty-2))
	crand.Read(value)
	return *withValue(rec, value)
}

func withValue(rec session.Record, value []byte) *session.Record {
	rec.Attrs = session.Attrs{{Name: "cart", Value: value}}
	return &rec
}

var idCount atomic.Uint64

// newID is spread like a hash, and never the same twice.
func newID() (id session.ID) {
	crand.Read(id.Hash[:])
	id.Generation = 0
	binary.BigEndian.PutUint64(id.Hash[8:], idCount.Add(1)*0x9e3779b97f4a7c15)
	return id
}

// storeOps are the operations on a store: each worker has a session of its own.
func storeOps(ctx context.Context, s session.Store, n int) (ops map[string]func(context.Context, int) error, ids []session.ID, err error) {
	ids = make([]session.ID, n)
	recs := make([]session.Record, n)
	for w := range ids {
		ids[w], recs[w] = newID(), record(encoded)
		if err := s.Create(ctx, ids[w], recs[w]); err != nil {
			return nil, nil, err
		}
	}
	return map[string]func(context.Context, int) error{
		"load": func(ctx context.Context, w int) error {
			_, err := s.Load(ctx, ids[w])
			return err
		},
		"update": func(ctx context.Context, w int) error {
			next := recs[w]
			next.Rev = next.Rev.Next()
			err := s.Update(ctx, ids[w], next, recs[w].Rev)
			if err == nil {
				recs[w] = next
			}
			return err
		},
		"touch": func(ctx context.Context, w int) error {
			recs[w].Expires = recs[w].Expires.Add(time.Second)
			return s.Touch(ctx, ids[w], recs[w].Expires)
		},
		"create": func(ctx context.Context, w int) error { return s.Create(ctx, newID(), recs[w]) },
	}, ids, nil
}

func (b *bench) add(s *subject) { b.subjects = append(b.subjects, s) }

// open starts what is measured. What is not installed is said.
func (b *bench) open(ctx context.Context) error {
	for _, k := range []struct {
		name string
		open func(ctx context.Context) error
	}{
		{"memory", b.openMemory},
		{"pebble", b.openPebble},
		{"redis", b.openRedis},
		{"memcached", b.openMemcached},
		{"nats", b.openNATS},
		{"nats_r3", b.openCluster},
		{"peer", b.openPeers},
	} {
		if !b.selected(k.name) {
			continue
		}
		if err := k.open(ctx); errors.Is(err, peer.ErrMissing) {
			b.note("%s is not measured: %v", k.name, err)
		} else if err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) openMemory(ctx context.Context) error {
	open := func() (session.Store, error) { return memstore.New(&memstore.Options{MaxBytes: -1, MaxSessions: -1}) }
	s, err := open()
	if err != nil {
		return err
	}
	ops, _, err := storeOps(ctx, s, workers)
	b.add(&subject{name: "memory", inside: true, op: ops, workers: workers})
	b.sized = append(b.sized, sized{name: "memory", what: "heap", open: func(context.Context) (session.Store, func(), error) {
		s, err := open()
		return s, func() {}, err
	}, used: func(context.Context) (int64, error) { return heap(), nil }})
	return err
}

// quiet keeps the engine's news to itself.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(string, ...any) {}

func (b *bench) openPebble(ctx context.Context) error {
	s, err := pebblestore.Open(filepath.Join(b.dir, "pebblestore"), nil)
	if err != nil {
		return err
	}
	b.defers(func() { _ = s.Close() })
	ops, _, err := storeOps(ctx, s, manyWorkers)
	if err != nil {
		return err
	}
	b.add(&subject{name: "pebble", inside: true, op: ops, workers: manyWorkers})
	db, err := pebble.Open(filepath.Join(b.dir, "pebble-raw"), &pebble.Options{Logger: quiet{}, FormatMajorVersion: pebble.FormatValueSeparation})
	if err != nil {
		return err
	}
	b.defers(func() { _ = db.Close() })
	rec := record(encoded)
	value, keys := session.AppendRecord(nil, &rec), make([][]byte, manyWorkers)
	for w := range keys {
		keys[w] = []byte("s/" + newID().Key())
	}
	b.add(&subject{name: "pebble_raw", inside: true, workers: manyWorkers, op: map[string]func(context.Context, int) error{
		"load": func(_ context.Context, w int) error {
			v, c, err := db.Get(keys[w])
			if err != nil {
				return err
			}
			_ = append([]byte(nil), v...)
			return c.Close()
		},
		"update": func(_ context.Context, w int) error { return db.Set(keys[w], value, pebble.Sync) },
	}})
	if err := b.each(keys, func(k []byte) error { return db.Set(k, value, pebble.NoSync) }); err != nil {
		return err
	}
	var at string
	b.sized = append(b.sized, sized{name: "pebble", what: "disk", open: func(context.Context) (session.Store, func(), error) {
		at, err = os.MkdirTemp(b.dir, "size-")
		if err != nil {
			return nil, nil, err
		}
		s, err := pebblestore.Open(at, nil)
		return s, func() { _ = s.Close() }, err
	}, used: func(context.Context) (int64, error) { return bytesIn(at) }})
	return nil
}

func (b *bench) each(keys [][]byte, f func(k []byte) error) error {
	for _, k := range keys {
		if err := f(k); err != nil {
			return err
		}
	}
	return nil
}
