// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"

	"github.com/belay-ha/belay/bench/internal/peer"
	"github.com/belay-ha/belay/internal/placement"
	"github.com/belay-ha/belay/session"
)

// sizes are of the values in a session: 0.5, 1, 1.7, 2 and 4 KB.
var sizes = []int{512, 1024, 1700, 2048, 4096}

// sized is a store whose bytes per session can be told.
type sized struct {
	name, what string
	open       func(ctx context.Context, size int) (session.Store, func(), error)
	used       func(ctx context.Context) (int64, error)
	settle     func() error // before used is asked again; nil: nothing to do
	// children say it themselves, instead of all of the above.
	child func(ctx context.Context, size int) (float64, error)
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
	fmt.Fprintf(b.out, "\nbytes per session, %d sessions with one value that cannot be compressed\n\n%-14s %-24s", b.sessions, "store", "of")
	for _, size := range sizes {
		fmt.Fprintf(b.out, " %7d", size)
	}
	fmt.Fprintln(b.out)
	got := map[string]float64{}
	for _, s := range b.sized {
		fmt.Fprintf(b.out, "%-14s %-24s", s.name, s.what)
		for _, size := range sizes {
			n, err := b.perSession(ctx, s, size)
			if err != nil {
				return fmt.Errorf("%s: bytes per session: %w", s.name, err)
			}
			fmt.Fprintf(b.out, " %7.0f", n)
			got[bytesName(s.name, size)] = n
		}
		fmt.Fprintln(b.out)
	}
	fmt.Fprintln(b.out)
	for _, s := range b.sized {
		for _, size := range sizes {
			name := bytesName(s.name, size)
			b.figure(name, got[name], 0)
		}
	}
	return nil
}

func bytesName(store string, size int) string { return fmt.Sprintf("%s_bytes_%d", store, size) }

func (b *bench) perSession(ctx context.Context, s sized, size int) (float64, error) {
	if s.child != nil {
		return s.child(ctx, size)
	}
	store, done, err := s.open(ctx, size)
	if err != nil {
		return 0, err
	}
	defer done()
	before, err := s.used(ctx)
	if err != nil {
		return 0, err
	}
	if err := fill(ctx, store, size, b.sessions); err != nil {
		return 0, err
	}
	if s.settle != nil {
		if err := s.settle(); err != nil {
			return 0, err
		}
	}
	after, err := s.used(ctx)
	return float64(after-before) / float64(b.sessions), err
}

// fill creates sessions with a value of some size that cannot be compressed.
func fill(ctx context.Context, store session.Store, size, n int) error {
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			rec := record(encoded)
			rec.Attrs[0].Value = make([]byte, size)
			for i := w; i < n; i += workers {
				crand.Read(rec.Attrs[0].Value)
				if errs[w] = store.Create(ctx, newID(), rec); errs[w] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// sizedInChild measures a store that keeps sessions in this process's memory in a
// process that has nothing else: what its heap holds, and what the system has given
// it, garbage included.
func (b *bench) sizedInChild(store string) {
	type both struct{ heap, resident float64 }
	got := map[int]both{}
	ask := func(ctx context.Context, size int) (both, error) {
		if r, ok := got[size]; ok {
			return r, nil
		}
		var r both
		self, err := os.Executable()
		if err != nil {
			return r, err
		}
		out, err := exec.CommandContext(ctx, self, serverArg, "size", store, strconv.Itoa(size), strconv.Itoa(b.sessions)).Output()
		if err == nil {
			_, err = fmt.Sscan(string(out), &r.heap, &r.resident)
		}
		got[size] = r
		return r, err
	}
	b.sized = append(b.sized, sized{name: store, what: "heap, each copy", child: func(ctx context.Context, size int) (float64, error) {
		r, err := ask(ctx, size)
		return r.heap, err
	}}, sized{name: store + "_resident", what: "resident, each copy", child: func(ctx context.Context, size int) (float64, error) {
		r, err := ask(ctx, size)
		return r.resident, err
	}})
}

// sizeHere is that process.
func sizeHere(ctx context.Context, store string, size, n int, out io.Writer) error {
	var s session.Store
	var err error
	copies := 1
	switch store {
	case "memory":
		s, err = openMemory()
	case "peer": // both nodes
		var stop func()
		s, stop, err = startPair(ctx)
		defer stop()
		copies = 2
	default:
		err = fmt.Errorf("no store in memory: %s", store)
	}
	if err != nil {
		return err
	}
	if err := fill(ctx, s, size, workers); err != nil { // buffers and pools
		return err
	}
	debug.FreeOSMemory()
	heapBefore, residentBefore := heap(), resident()
	if err := fill(ctx, s, size, n); err != nil {
		return err
	}
	residentAfter := resident()
	k := float64(n * copies)
	fmt.Fprintln(out, float64(heap()-heapBefore)/k, float64(residentAfter-residentBefore)/k)
	runtime.KeepAlive(s)
	return nil
}

// startPair starts two nodes in this process, and returns one's store.
func startPair(ctx context.Context) (s session.Store, stop func(), err error) {
	a, err1 := peer.FreeAddr()
	c, err2 := peer.FreeAddr()
	stop = func() {}
	if err := errors.Join(err1, err2); err != nil {
		return nil, stop, err
	}
	var nodes [2]*node
	var errs [2]error
	var wg sync.WaitGroup
	for i, addr := range []string{a, c} {
		wg.Go(func() { nodes[i], errs[i] = startNode(ctx, fmt.Sprint("n", i), addr, []string{a, c}) })
	}
	wg.Wait()
	stop = func() {
		for _, n := range nodes {
			if n != nil {
				n.stop()
			}
		}
	}
	if err := errors.Join(errs[:]...); err != nil {
		return nil, stop, err
	}
	return nodes[0].store, stop, nodes[0].meets(ctx)
}

func heap() int64 {
	runtime.GC()
	runtime.GC() // pools lose what they keep at the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func resident() int64 {
	var size, pages int64
	text, _ := os.ReadFile("/proc/self/statm")
	_, _ = fmt.Sscan(string(text), &size, &pages)
	return pages * int64(os.Getpagesize())
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
	fmt.Fprintln(b.out)
	b.figure("placement_moved", float64(moved), 0)
	b.figure("placement_skew_pct", skew, 1)
	return nil
}
