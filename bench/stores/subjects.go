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
	"slices"
	"sync"
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

// work is what workers do with a store: each has a session of its own.
type work struct {
	store session.Store
	ids   []session.ID
	recs  []session.Record
	made  [][]session.ID // by create, of each worker
}

func newWork(ctx context.Context, s session.Store, n int) (*work, error) {
	k := &work{s, make([]session.ID, n), make([]session.Record, n), make([][]session.ID, n)}
	for w := range n {
		k.ids[w], k.recs[w] = newID(), record(encoded)
		if err := s.Create(ctx, k.ids[w], k.recs[w]); err != nil {
			return nil, err
		}
	}
	return k, nil
}

func (k *work) ops() map[string]func(context.Context, int) error {
	return map[string]func(context.Context, int) error{
		"load": func(ctx context.Context, w int) error {
			_, err := k.store.Load(ctx, k.ids[w])
			return err
		},
		"update": func(ctx context.Context, w int) error {
			next := k.recs[w]
			next.Rev = next.Rev.Next()
			err := k.store.Update(ctx, k.ids[w], next, k.recs[w].Rev)
			if err == nil {
				k.recs[w] = next
			}
			return err
		},
		"touch": func(ctx context.Context, w int) error {
			k.recs[w].Expires = k.recs[w].Expires.Add(time.Second)
			return k.store.Touch(ctx, k.ids[w], k.recs[w].Expires)
		},
		"create": func(ctx context.Context, w int) error {
			id := newID()
			k.made[w] = append(k.made[w], id)
			return k.store.Create(ctx, id, k.recs[w])
		},
	}
}

// tidy deletes what was created: a store that grows from round to round would not
// be compared with its engine alone.
func (k *work) tidy(ctx context.Context) error {
	errs := make([]error, len(k.made))
	var wg sync.WaitGroup
	for w := range k.made {
		wg.Go(func() {
			for chunk := range slices.Chunk(k.made[w], 64) {
				if errs[w] = k.store.Delete(ctx, chunk...); errs[w] != nil {
					return
				}
			}
			k.made[w] = nil
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// addStore adds a store whose engine is in this process.
func (b *bench) addStore(ctx context.Context, name string, s session.Store, workers int) error {
	k, err := newWork(ctx, s, workers)
	if err == nil {
		b.add(&subject{name: name, inside: true, op: k.ops(), tidy: k.tidy, workers: workers})
	}
	return err
}

// addServed adds a store at a server: open is called with the addresses of the
// server and with those of relays before it.
func (b *bench) addServed(ctx context.Context, name string, addrs []string, open func(addrs []string, relayed bool) (session.Store, error)) (*work, error) {
	s := &subject{name: name, workers: workers}
	var through []string
	for _, a := range addrs {
		r, err := startRelay(a)
		if err != nil {
			return nil, err
		}
		b.defers(r.close)
		s.relays, through = append(s.relays, r), append(through, r.addr())
	}
	direct, err := open(addrs, false)
	if err != nil {
		return nil, err
	}
	k, err := newWork(ctx, direct, workers)
	if err != nil {
		return nil, err
	}
	s.op, s.tidy = k.ops(), k.tidy
	relayed, err := open(through, true)
	if err != nil {
		return nil, err
	}
	counted, err := newWork(ctx, relayed, 1)
	if err != nil {
		return nil, err
	}
	s.relayed = counted.ops()
	b.add(s)
	return k, nil
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
		{"postgres", b.openPostgres},
		{"mariadb", b.openMariaDB},
		{"sqlite", b.openSQLite},
	} {
		if !b.selected(k.name) {
			b.absent[k.name] = true
			continue
		}
		if err := k.open(ctx); errors.Is(err, peer.ErrMissing) {
			b.absent[k.name] = true
			b.note("%s is not measured: %v", k.name, err)
		} else if err != nil {
			return err
		}
	}
	return nil
}

func openMemory() (session.Store, error) {
	return memstore.New(&memstore.Options{MaxBytes: -1, MaxSessions: -1})
}

func (b *bench) openMemory(ctx context.Context) error {
	s, err := openMemory()
	if err != nil {
		return err
	}
	b.sizedInChild("memory")
	return b.addStore(ctx, "memory", s, workers)
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
	if err := b.addStore(ctx, "pebble", s, manyWorkers); err != nil {
		return err
	}
	db, err := openRawPebble(filepath.Join(b.dir, "pebble-raw"))
	if err != nil {
		return err
	}
	b.defers(func() { _ = db.Close() })
	rec := record(encoded)
	value, keys, made := session.AppendRecord(nil, &rec), make([][]byte, manyWorkers), make([][][]byte, manyWorkers)
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
		"create": func(_ context.Context, w int) error {
			key := []byte("s/" + newID().Key())
			made[w] = append(made[w], key)
			return db.Set(key, value, pebble.Sync)
		},
	}, tidy: func(context.Context) error {
		b := db.NewBatch()
		for _, k := range slices.Concat(made...) {
			if err := b.Delete(k, nil); err != nil {
				return err
			}
		}
		clear(made)
		return errors.Join(db.Apply(b, pebble.Sync), b.Close())
	}})
	for _, k := range keys {
		if err := db.Set(k, value, pebble.NoSync); err != nil {
			return err
		}
	}
	var at string
	var store *pebblestore.Store
	b.sized = append(b.sized, sized{name: "pebble", what: "disk, flushed", open: func(context.Context, int) (session.Store, func(), error) {
		if at, err = os.MkdirTemp(b.dir, "size-"); err == nil {
			store, err = pebblestore.Open(at, nil)
		}
		return store, func() {}, err
	}, used: func(context.Context) (int64, error) {
		if store == nil { // it is closed already
			return bytesIn(at)
		}
		return 0, nil
	}, settle: func() error {
		err := store.Close()
		store = nil
		if err != nil {
			return err
		}
		db, err := openRawPebble(at)
		if err != nil {
			return err
		}
		return errors.Join(db.Flush(), db.Close())
	}})
	return nil
}

func openRawPebble(dir string) (*pebble.DB, error) {
	return pebble.Open(dir, &pebble.Options{Logger: quiet{}, FormatMajorVersion: pebble.FormatValueSeparation})
}
