// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	workers     = 32
	manyWorkers = 64 // where a flush is shared
)

var operations = []string{"load", "update", "touch", "create"}

// subject is a store, or the bare client of an engine.
type subject struct {
	name    string
	inside  bool                                              // the engine is in this process: its CPU time is in the figure
	op      map[string]func(ctx context.Context, w int) error // by operation, those that there are
	workers int
	tidy    func(ctx context.Context) error // deletes what was created since
	// relayed is the same by way of relays that count, nil if it has no server.
	relayed map[string]func(ctx context.Context, w int) error
	relays  []*relay
}

// sample is one operation in one round.
type sample struct {
	rate     float64 // per second
	cpu      float64 // µs of this process per operation
	p50, p99 time.Duration
}

type figure struct{ subject, op string }

type bench struct {
	settings
	dir        string
	out, notes io.Writer
	subjects   []*subject
	sized      []sized
	samples    map[figure][]sample
	tripsPer   map[figure]float64
	closers    []func()
	absent     map[string]bool // kinds of stores that are not measured
	told       map[string]bool // figures that were printed
}

func (b *bench) stop() {
	for _, f := range slices.Backward(b.closers) {
		f()
	}
}

func (b *bench) defers(f func()) { b.closers = append(b.closers, f) }

func (b *bench) note(format string, a ...any) { fmt.Fprintf(b.notes, format+"\n", a...) }

// measure takes all subjects in turn, round by round, every second one backwards,
// so that what the machine does meanwhile meets all alike. One round more, the
// first, is not counted.
func (b *bench) measure(ctx context.Context) error {
	b.samples, b.tripsPer = map[figure][]sample{}, map[figure]float64{}
	order := slices.Clone(b.subjects)
	for round := range b.rounds + 1 {
		for _, op := range operations {
			for _, s := range order {
				f := s.op[op]
				if f == nil {
					continue
				}
				length := b.length
				if round == 0 {
					length /= 3
				}
				profiled, err := b.profile(s.name, op, round)
				if err != nil {
					return err
				}
				got, err := s.during(ctx, length, f)
				profiled()
				if err == nil && op == "create" && s.tidy != nil {
					err = s.tidy(ctx)
				}
				if err != nil {
					return fmt.Errorf("%s: %s: %w", s.name, op, err)
				}
				if round > 0 {
					b.samples[figure{s.name, op}] = append(b.samples[figure{s.name, op}], got)
				}
			}
		}
		slices.Reverse(order)
		if round > 0 {
			b.note("round %d of %d", round, b.rounds)
		}
	}
	return b.countTrips(ctx)
}

// profile begins a CPU profile, if they are asked for.
func (b *bench) profile(subject, op string, round int) (end func(), err error) {
	if b.profiles == "" || round == 0 {
		return func() {}, nil
	}
	f, err := os.Create(filepath.Join(b.profiles, fmt.Sprintf("%s_%s-%d.pprof", subject, op, round)))
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close()
	}, nil
}

// during lets all workers repeat an operation for a time.
func (s *subject) during(ctx context.Context, each time.Duration, f func(ctx context.Context, w int) error) (sample, error) {
	n := s.workers
	took := make([][]time.Duration, n)
	errs := make([]error, n)
	ctx, cancel := context.WithTimeout(ctx, each+30*time.Second)
	defer cancel()
	runtime.GC() // what others left is not this one's to collect
	cpu, began := cpuTime(), time.Now()
	var wg sync.WaitGroup
	for w := range n {
		wg.Go(func() {
			for at := time.Now(); ; { // once, however late it begins
				if errs[w] = f(ctx, w); errs[w] != nil {
					return
				}
				now := time.Now()
				took[w] = append(took[w], now.Sub(at))
				if at = now; at.Sub(began) >= each {
					return
				}
			}
		})
	}
	wg.Wait()
	all, used := time.Since(began), cpuTime()-cpu
	if err := errors.Join(errs...); err != nil {
		return sample{}, err
	}
	list := slices.Concat(took...)
	slices.Sort(list)
	k := float64(len(list))
	return sample{
		rate: k / all.Seconds(), cpu: float64(used.Microseconds()) / k,
		p50: list[len(list)/2], p99: list[len(list)*99/100],
	}, nil
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// countTrips lets one worker do each operation alone.
func (b *bench) countTrips(ctx context.Context) error {
	const n = 20
	for _, s := range b.subjects {
		for _, op := range operations {
			f := s.relayed[op]
			if f == nil {
				continue
			}
			if err := f(ctx, 0); err != nil { // a statement is prepared once
				return fmt.Errorf("%s: %s: %w", s.name, op, err)
			}
			before := s.trips()
			for range n {
				if err := f(ctx, 0); err != nil {
					return fmt.Errorf("%s: %s: %w", s.name, op, err)
				}
			}
			b.tripsPer[figure{s.name, op}] = float64(s.trips()-before) / n
		}
	}
	return nil
}

func (s *subject) trips() (n int64) {
	for _, r := range s.relays {
		n += r.trips.Load()
	}
	return n
}
