// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
)

// spread is the median of some values and the range they lie in.
type spread struct{ low, mid, high float64 }

func spreadOf(values []float64) spread {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return spread{v[0], (v[(n-1)/2] + v[n/2]) / 2, v[n-1]}
}

func (b *bench) spread(name string, f func(s sample) float64) spread {
	var v []float64
	for _, s := range b.samples[name] {
		v = append(v, f(s))
	}
	return spreadOf(v)
}

// times compares a case with plain at the same time.
func (b *bench) times(name string) spread {
	if name == plain {
		return spread{1, 1, 1}
	}
	return b.spread(name, func(s sample) float64 { return s.cpu / s.plain })
}

// above is what a case costs more than plain, in µs.
func (b *bench) above(name string) float64 {
	return b.spread(name, func(s sample) float64 { return s.cpu - s.plain }).mid
}

// pairs are the cases that keep the same data in the same kind of store.
func pairs() [][2]string {
	return [][2]string{
		{"shared_mem_read", "scs_mem_read"},
		{"shared_mem_write", "scs_mem_write"},
		{"shared_redis_read", "scs_redis_read"},
		{"shared_redis_write", "scs_redis_write"},
		{"coherent_read", "scs_redis_read"},
		{"coherent_write", "scs_redis_write"},
		{"sticky_read", "scs_redis_read"},
		{"sticky_async_write", "scs_redis_write"},
		{"sticky_sync_write", "scs_redis_write"},
	}
}

func (b *bench) report(out io.Writer) {
	fmt.Fprintf(out, "CPU time of the app process per request; %d rounds of %d requests on %d connections; %s, %d cores\n\n",
		b.rounds, b.requests-b.requests%connections, connections, runtime.Version(), runtime.NumCPU())
	fmt.Fprintf(out, "%-20s %8s %15s %8s %13s %8s %8s %10s %9s\n",
		"case", "cpu µs", "(low–high)", "× plain", "(low–high)", "allocs", "bytes", "redis µs", "req/s")
	for _, c := range b.cases {
		cpu, x := b.spread(c.name, func(s sample) float64 { return s.cpu }), b.times(c.name)
		mid := func(f func(s sample) float64) float64 { return b.spread(c.name, f).mid }
		fmt.Fprintf(out, "%-20s %8.1f %15s %8.2f %13s %8.1f %8.0f %10.1f %9.0f\n", c.name,
			cpu.mid, fmt.Sprintf("%.1f–%.1f", cpu.low, cpu.high), x.mid, fmt.Sprintf("%.2f–%.2f", x.low, x.high),
			mid(func(s sample) float64 { return s.allocs }), mid(func(s sample) float64 { return s.bytes }),
			mid(func(s sample) float64 { return s.redis }), mid(func(s sample) float64 { return s.rate }))
	}
	b.reportPairs(out)
	fmt.Fprintln(out)
	for _, c := range b.cases {
		if c.name == plain {
			fmt.Fprintf(out, "plain_us %.2f\n", b.spread(plain, func(s sample) float64 { return s.cpu }).mid)
		} else {
			fmt.Fprintf(out, "%s_x %.2f\n", c.name, b.times(c.name).mid)
		}
	}
}

// reportPairs is what sessions cost, with the price of the request itself taken off.
func (b *bench) reportPairs(out io.Writer) {
	head := false
	for _, p := range pairs() {
		if len(b.samples[p[0]]) == 0 || len(b.samples[p[1]]) == 0 {
			continue
		}
		if !head {
			fmt.Fprintf(out, "\n%-20s %8s   %-16s %8s   %s\n", "above plain", "µs", "scs, same store", "µs", "scs ÷ Belay")
			head = true
		}
		ours, theirs := b.above(p[0]), b.above(p[1])
		ratio := "-" // ours is lost in the noise
		if ours > 0 {
			ratio = fmt.Sprintf("%.1f", theirs/ours)
		}
		fmt.Fprintf(out, "%-20s %8.1f   %-16s %8.1f   %s\n", p[0], ours, p[1], theirs, ratio)
	}
}
