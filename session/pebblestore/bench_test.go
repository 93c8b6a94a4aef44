// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package pebblestore_test

import (
	crand "crypto/rand"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/pebblestore"
)

const benchWriters = 64

// together runs f at the same time in all writers.
func together(b *testing.B, f func(w int) error) time.Duration {
	b.Helper()
	var wg sync.WaitGroup
	began := time.Now()
	for w := range benchWriters {
		wg.Go(func() {
			if err := f(w); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	return time.Since(began)
}

func sized(n int) session.Record {
	rec := record(time.Hour)
	value := make([]byte, n)
	crand.Read(value)
	rec.Attrs = rec.Attrs.With("a", value)
	return rec
}

// BenchmarkUpdate compares updates of 2 KB sessions by 64 writers with what the
// engine does by itself, in turns: update_x_raw is the ratio of throughputs.
func BenchmarkUpdate(b *testing.B) {
	store, err := pebblestore.Open(b.TempDir(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	db, err := pebble.Open(b.TempDir(), &pebble.Options{Logger: quiet{}, FormatMajorVersion: pebble.FormatValueSeparation})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	ctx := b.Context()
	var recs [benchWriters]session.Record
	value := session.AppendRecord(nil, &session.Record{Attrs: sized(2048).Attrs})
	for w := range recs {
		recs[w] = sized(2048)
		if err := store.Create(ctx, numbered(w), recs[w]); err != nil {
			b.Fatal(err)
		}
	}
	const each = 50
	var ours, raw time.Duration
	for b.Loop() {
		raw += together(b, func(w int) error {
			key := pebblestore.SessionKey(numbered(w))
			for range each {
				if err := db.Set(key, value, pebble.Sync); err != nil {
					return err
				}
			}
			return nil
		})
		ours += together(b, func(w int) error {
			for range each {
				rec := recs[w]
				rec.Rev = rec.Rev.Next()
				rec.Expires = rec.Expires.Add(time.Second) // a request a second: each 60th moves the index
				if err := store.Update(ctx, numbered(w), rec, recs[w].Rev); err != nil {
					return err
				}
				recs[w] = rec
			}
			return nil
		})
	}
	total := float64(b.N * benchWriters * each)
	b.ReportMetric(total/ours.Seconds(), "updates/s")
	b.ReportMetric(total/raw.Seconds(), "raw/s")
	b.ReportMetric(raw.Seconds()/ours.Seconds(), "update_x_raw")
}

func BenchmarkLoad(b *testing.B) {
	store, err := pebblestore.Open(b.TempDir(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	if err := store.Create(b.Context(), numbered(1), sized(2048)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := store.Load(b.Context(), numbered(1)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTouch(b *testing.B) {
	store, err := pebblestore.Open(b.TempDir(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	rec := sized(2048)
	if err := store.Create(b.Context(), numbered(1), rec); err != nil {
		b.Fatal(err)
	}
	for n := 1; b.Loop(); n++ {
		if err := store.Touch(b.Context(), numbered(1), rec.Expires.Add(time.Duration(n)*time.Second)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSize tells what sessions of incompressible data take on disk: when
// they have been written, and when each was written twice more.
func BenchmarkSize(b *testing.B) {
	const sessions = 20_000
	for _, size := range []int{512, 1024, 1700, 2048, 4096} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			for b.Loop() {
				dir := b.TempDir()
				store, err := pebblestore.Open(dir, nil)
				if err != nil {
					b.Fatal(err)
				}
				var recs [sessions]session.Record
				fill := func(f func(i int) error) float64 {
					together(b, func(w int) error {
						for i := w; i < sessions; i += benchWriters {
							if err := f(i); err != nil {
								return err
							}
						}
						return nil
					})
					return float64(bytesIn(b, dir)) / sessions
				}
				created := fill(func(i int) error {
					recs[i] = sized(size)
					return store.Create(b.Context(), numbered(i), recs[i])
				})
				var updated float64
				for range 2 {
					updated = fill(func(i int) error {
						rec := sized(size)
						rec.Rev = recs[i].Rev.Next()
						ifRev := recs[i].Rev
						recs[i] = rec
						return store.Update(b.Context(), numbered(i), rec, ifRev)
					})
				}
				clear(recs[:])
				runtime.GC()
				var mem runtime.MemStats
				runtime.ReadMemStats(&mem)
				b.ReportMetric(created, "disk-B/session")
				b.ReportMetric(updated, "disk-B/session-rewritten")
				b.ReportMetric(float64(mem.HeapAlloc)/1e6, "heap-MB")
				if err := store.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func bytesIn(b *testing.B, dir string) (n int64) {
	b.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // the engine removes files while we look
		}
		if info, err := d.Info(); err == nil {
			n += info.Size()
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return n
}
