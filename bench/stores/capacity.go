// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/belay-ha/belay/internal/placement"
	"github.com/belay-ha/belay/session"
)

// sizes are of the values in a session: 0.5, 1, 1.7, 2 and 4 KB.
var sizes = []int{512, 1024, 1700, 2048, 4096}

// sized is a store whose bytes per session can be told.
type sized struct {
	name, what string
	open       func(ctx context.Context) (session.Store, func(), error)
	used       func(ctx context.Context) (int64, error)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func bytesIn(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // the engine removes files while we look
		}
		if info, err := d.Info(); err == nil {
			n += info.Size()
		}
		return nil
	})
	return n, err
}

func (b *bench) capacity(ctx context.Context) error {
	if b.sessions == 0 || len(b.sized) == 0 {
		return nil
	}
	fmt.Fprintf(b.out, "\nbytes per session, %d sessions with one value that cannot be compressed\n\n%-12s %-24s", b.sessions, "store", "of")
	for _, size := range sizes {
		fmt.Fprintf(b.out, " %7d", size)
	}
	fmt.Fprintln(b.out)
	var lines []string
	for _, s := range b.sized {
		fmt.Fprintf(b.out, "%-12s %-24s", s.name, s.what)
		for _, size := range sizes {
			n, err := b.perSession(ctx, s, size)
			if err != nil {
				return fmt.Errorf("%s: bytes per session: %w", s.name, err)
			}
			fmt.Fprintf(b.out, " %7.0f", n)
			lines = append(lines, fmt.Sprintf("%s_bytes_%d %.0f", s.name, size, n))
		}
		fmt.Fprintln(b.out)
	}
	fmt.Fprintln(b.out)
	for _, l := range lines {
		fmt.Fprintln(b.out, l)
	}
	return nil
}

func (b *bench) perSession(ctx context.Context, s sized, size int) (float64, error) {
	store, done, err := s.open(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	before, err := s.used(ctx)
	if err != nil {
		return 0, err
	}
	ids := make([]session.ID, b.sessions)
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(ids); i += workers {
				rec := record(0)
				rec = *withValue(rec, make([]byte, size))
				copy(rec.Attrs[0].Value, record(size + 200).Attrs[0].Value)
				ids[i] = newID()
				if errs[w] = store.Create(ctx, ids[i], rec); errs[w] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	after, err := s.used(ctx)
	if err == nil {
		err = store.Delete(ctx, ids...)
	}
	own := int64(0)
	if s.what[:4] == "heap" {
		own = int64(len(ids)) * 21 // ours
	}
	return float64(after-before-own) / float64(len(ids)), err
}

// placement adds a node to a group with 100,000 live sessions.
func (b *bench) placement() error {
	const ids, nodes = 100_000, 4
	var members []placement.Member
	for i := range nodes {
		members = append(members, placement.Member{ID: fmt.Sprint("n", i), Addr: fmt.Sprintf("10.0.0.%d:11211", i), Weight: 1})
	}
	before, err := placement.New(members...)
	if err != nil {
		return err
	}
	members = append(members, placement.Member{ID: "new", Addr: "10.0.0.9:11211", Weight: 1})
	after, epoch, err := before.Append(members...)
	if err != nil {
		return err
	}
	hash := func(i int) (h [20]byte) {
		id := newID()
		binary.BigEndian.PutUint32(id.Hash[:], uint32(i)*2654435761)
		return id.Hash
	}
	first := func(l *placement.List, epoch byte, h [20]byte) string {
		g := l.Find(epoch)
		return g.Members[g.Order(nil, h)[0]].ID
	}
	old, _ := before.Pick(0)
	moved, at := 0, map[string]int{}
	for i := range ids {
		h := hash(i)
		if first(before, old, h) != first(after, old, h) {
			moved++
		}
		at[first(after, epoch, h)]++
	}
	skew := 0.0
	for _, n := range at {
		skew = max(skew, math.Abs(float64(n)/(ids/(nodes+1))-1)*100)
	}
	fmt.Fprintf(b.out, "\nplacement_moved %d\nplacement_skew_pct %.1f\n", moved, skew)
	return nil
}
