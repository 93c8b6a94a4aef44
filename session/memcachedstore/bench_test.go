// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcachedstore_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/belay-ha/belay/internal/memcache"
	"github.com/belay-ha/belay/session/memcachedstore"
)

// BenchmarkBytesPerSession reports how much of a server's memory one copy takes: the
// chunks in use, by the number of sessions.
func BenchmarkBytesPerSession(b *testing.B) {
	const sessions = 5000
	for _, size := range []int{512, 1024, 1680, 1740, 2048, 4096} {
		b.Run(fmt.Sprint("value_", size), func(b *testing.B) {
			g := startGroup(b, 1, "-m", "256")
			s := open(b, g.url(), patiently())
			for b.Loop() {
				for range sessions {
					if err := s.Create(b.Context(), newID(), newRecord(size)); err != nil {
						b.Fatal(err)
					}
				}
			}
			c, err := memcache.New(g[0].Addr(), nil)
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			stats, err := c.Stats(b.Context(), "slabs")
			if err != nil {
				b.Fatal(err)
			}
			used, chunk := 0, 0
			for name, v := range stats {
				if class, ok := strings.CutSuffix(name, ":used_chunks"); ok {
					n, _ := strconv.Atoi(v)
					size, _ := strconv.Atoi(stats[class+":chunk_size"])
					used += n * size
					chunk = max(chunk, size)
				}
			}
			b.ReportMetric(float64(used)/float64(sessions*b.N), "B/session")
			b.ReportMetric(float64(chunk), "B/chunk")
		})
	}
}

// BenchmarkStore is the calls on three servers of this machine.
func BenchmarkStore(b *testing.B) {
	for _, copies := range []int{1, 2} {
		g := startGroup(b, 3, "-m", "512")
		s := running(b, g.url(), &memcachedstore.Options{Copies: copies, NodeTimeout: patient, ConnectTimeout: patient})
		rec := newRecord(2048)
		id := newID()
		if err := s.Create(b.Context(), id, rec); err != nil {
			b.Fatal(err)
		}
		run := func(name string, f func() error) {
			b.Run(fmt.Sprintf("%s/copies_%d", name, copies), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := f(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		run("load", func() error { _, err := s.Load(b.Context(), id); return err })
		run("create", func() error { return s.Create(b.Context(), newID(), rec) })
		run("load_and_update", func() error {
			r, err := s.Load(b.Context(), id)
			if err != nil {
				return err
			}
			next := r
			next.Rev = r.Rev.Next()
			return s.Update(b.Context(), id, next, r.Rev)
		})
		run("create_and_delete", func() error {
			id := newID()
			if err := s.Create(b.Context(), id, rec); err != nil {
				return err
			}
			return s.Delete(b.Context(), id)
		})
	}
}
