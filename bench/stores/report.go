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
			rate, cpu := b.mid(s.name, op, rateOf), b.mid(s.name, op, cpuOf)
			b.tell(rateName(s.name, op), rate)
			b.tell(cpuName(s.name, op), cpu)
			trips, mark := "-", ""
			if n, ok := b.tripsPer[figure{s.name, op}]; ok {
				trips = fmt.Sprintf("%.1f", n)
				b.tell(tripsName(s.name, op), n)
			}
			if s.inside {
				mark, inside = "*", true
			}
			lat := func(f func(s sample) time.Duration) string {
				return time.Duration(b.mid(s.name, op, func(s sample) float64 { return float64(f(s)) })).Round(time.Microsecond).String()
			}
			fmt.Fprintf(b.out, "%-14s %-7s %10.0f %10s %9s %9s %6s\n", s.name, op, rate, fmt.Sprintf("%.1f%s", cpu, mark),
				lat(func(s sample) time.Duration { return s.p50 }), lat(func(s sample) time.Duration { return s.p99 }), trips)
		}
	}
	if inside {
		fmt.Fprintln(b.out, "\n* the engine is in the process that is measured")
	}
	fmt.Fprintln(b.out)
	for _, r := range ratios {
		b.ratio(r)
	}
}

// ratio prints the median of the ratios of each round.
func (b *bench) ratio(r ratio) {
	a, c := b.samples[figure{r.ours, r.op}], b.samples[figure{r.raw, r.op}]
	if len(a) == 0 || len(a) != len(c) {
		return
	}
	v := make([]float64, len(a))
	for i := range a {
		v[i] = r.of(a[i]) / r.of(c[i])
	}
	b.figure(r.name, median(v), 2)
}
