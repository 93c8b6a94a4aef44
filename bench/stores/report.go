// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"runtime"
	"slices"
	"time"
)

func median[T int64 | float64](v []T) T {
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

func (b *bench) mid(subject, op string, f func(s sample) float64) float64 {
	var v []float64
	for _, s := range b.samples[figure{subject, op}] {
		v = append(v, f(s))
	}
	if len(v) == 0 {
		return 0
	}
	return median(v)
}

func cpuOf(s sample) float64  { return s.cpu }
func rateOf(s sample) float64 { return s.rate }

func (b *bench) report() {
	fmt.Fprintf(b.out, "%d workers (pebble %d), records of %d bytes, %d rounds of %v each; %s, %d cores; medians\n\n",
		workers, manyWorkers, encoded, b.rounds, b.length, runtime.Version(), runtime.NumCPU())
	fmt.Fprintf(b.out, "%-14s %-7s %10s %10s %9s %9s %6s\n", "store", "", "per second", "cpu µs", "p50", "p99", "trips")
	inside := false
	for _, s := range b.subjects {
		for _, op := range operations {
			if len(b.samples[figure{s.name, op}]) == 0 {
				continue
			}
			trips, mark := "-", ""
			if n, ok := b.tripsPer[figure{s.name, op}]; ok {
				trips = fmt.Sprintf("%.1f", n)
			}
			if s.inside {
				mark, inside = "*", true
			}
			lat := func(f func(s sample) time.Duration) string {
				return time.Duration(b.mid(s.name, op, func(s sample) float64 { return float64(f(s)) })).Round(time.Microsecond).String()
			}
			fmt.Fprintf(b.out, "%-14s %-7s %10.0f %10s %9s %9s %6s\n", s.name, op, b.mid(s.name, op, rateOf),
				fmt.Sprintf("%.1f%s", b.mid(s.name, op, cpuOf), mark),
				lat(func(s sample) time.Duration { return s.p50 }), lat(func(s sample) time.Duration { return s.p99 }), trips)
		}
	}
	if inside {
		fmt.Fprintln(b.out, "\n* the engine is in the process that is measured")
	}
	fmt.Fprintln(b.out)
	b.ratio("redis_load_x_rueidis", "redis", "rueidis", "load", cpuOf)
	b.ratio("redis_update_x_rueidis", "redis", "rueidis", "update", cpuOf)
	b.ratio("memcached_load_x_gomemcache", "memcached_1", "gomemcache", "load", cpuOf)
	b.ratio("memcached_update_x_gomemcache", "memcached_1", "gomemcache", "update", cpuOf)
	b.ratio("memcached_2_copies_load_x_gomemcache", "memcached_2", "gomemcache", "load", cpuOf)
	b.ratio("memcached_2_copies_update_x_gomemcache", "memcached_2", "gomemcache", "update", cpuOf)
	b.ratio("pebble_update_x_raw", "pebble", "pebble_raw", "update", rateOf)
	b.ratio("nats_load_x_raw", "nats", "nats_raw", "load", rateOf)
	b.ratio("nats_update_x_raw", "nats", "nats_raw", "update", rateOf)
	b.ratio("nats_r3_update_x_single", "nats_r3", "nats", "update", rateOf)
}

// ratio prints the median of the ratios of each round: of CPU time, or of
// throughput.
func (b *bench) ratio(name, ours, raw, op string, f func(s sample) float64) {
	a, c := b.samples[figure{ours, op}], b.samples[figure{raw, op}]
	if len(a) == 0 || len(a) != len(c) {
		return
	}
	v := make([]float64, len(a))
	for i := range a {
		v[i] = f(a[i]) / f(c[i])
	}
	fmt.Fprintf(b.out, "%s %.2f\n", name, median(v))
}
