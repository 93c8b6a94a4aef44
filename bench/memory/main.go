// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Memory measures what a million sessions cost in memory: it fills a memstore
// with records that are 2,000 bytes when encoded, as they are and with compressed
// values, and looks at the heap and at the pauses of the garbage collector.
package main

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/compress"
	"github.com/belay-ha/belay/session/memstore"
)

func main() {
	n := flag.Int("sessions", 1_000_000, "how many sessions")
	flag.Parse()
	if err := run(*n); err != nil {
		fmt.Fprintln(os.Stderr, "memory:", err)
		os.Exit(1)
	}
}

// encoded is the size of each record in the store's wire form.
const encoded = 2000

func run(n int) error {
	fmt.Printf("%d sessions of %d bytes, one after the other as they are and compressed\n\n", n, encoded)
	plain, err := measure(n, session.JSON{})
	if err != nil {
		return err
	}
	zstd, err := compress.New(session.JSON{}, &compress.Options{Threshold: 256})
	if err != nil {
		return err
	}
	packed, err := measure(n, zstd)
	if err != nil {
		return err
	}
	fmt.Printf("%-12s %10s %12s %14s\n", "", "record B", "B/session", "longest pause")
	for _, r := range []struct {
		name string
		result
	}{{"as they are", plain}, {"compressed", packed}} {
		fmt.Printf("%-12s %10d %12d %14v\n", r.name, r.record, r.perSession, r.pause)
	}
	fmt.Println()
	fmt.Println("bytes_per_session", plain.perSession)
	fmt.Println("bytes_per_session_compressed", packed.perSession)
	fmt.Printf("gc_pause_max_ms %.3f\n", float64(max(plain.pause, packed.pause))/float64(time.Millisecond))
	return nil
}

type result struct {
	record     int // encoded size
	perSession uint64
	pause      time.Duration
}

// measure fills a store and returns what it holds per session. Values are text
// like that of a shop: no two sessions have the same.
func measure(n int, codec session.Codec) (result, error) {
	store, err := memstore.New(&memstore.Options{MaxSessions: -1, MaxBytes: -1})
	if err != nil {
		return result{}, err
	}
	before := heap()
	ctx, now := context.Background(), time.Now()
	var r result
	for i := range n {
		rec := session.Record{
			Rev: session.Rev{N: 1}, Owner: fmt.Sprint("user", i), Created: now, Seen: now, Issued: now, AuthTime: now,
			Expires: now.Add(30 * time.Minute), Ends: now.Add(12 * time.Hour),
		}
		fixed := len(session.AppendRecord(nil, &rec)) + 16
		text := cart(i, encoded-fixed)
		value, err := codec.Marshal(text)
		if err != nil {
			return r, err
		}
		rec.Attrs = session.Attrs{{Name: "cart", Value: value}}
		if i == 0 {
			r.record = len(session.AppendRecord(nil, &rec))
		}
		var id session.ID
		rand.Read(id.Hash[:]) // never fails (crypto/rand)
		if err := store.Create(ctx, id, rec); err != nil {
			return r, err
		}
	}
	r.perSession = (heap() - before) / uint64(n)
	r.pause = longestPause()
	runtime.KeepAlive(store)
	return r, nil
}

var items = []string{"rope", "carabiner", "harness", "helmet", "shoes", "chalk", "quickdraw", "belay device"}

// cart is text of n bytes that repeats itself as much as real sessions do.
func cart(seed, n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "{item:%s,count:%d,price:%d.%02d,added:%d},",
			items[(seed+i*i)%len(items)], (seed+i)%9, (seed*7+i)%300, (seed+i*13)%100, 1_700_000_000+seed*31+i*977)
	}
	return b.String()[:n]
}

func heap() uint64 {
	runtime.GC()
	debug.FreeOSMemory()
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// longestPause is the longest stop of the world for the garbage collector so far.
func longestPause() time.Duration {
	s := []metrics.Sample{{Name: "/sched/pauses/total/gc:seconds"}}
	metrics.Read(s)
	h := s[0].Value.Float64Histogram()
	for i := len(h.Counts) - 1; i >= 0; i-- {
		if h.Counts[i] > 0 {
			return time.Duration(h.Buckets[i] * float64(time.Second))
		}
	}
	return 0
}
