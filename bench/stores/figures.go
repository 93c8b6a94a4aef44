// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"strings"
)

// kind is a kind of store: its name, the subjects that it has, those in
// measurements of bytes per session, and whether it is asked over a connection
// whose round trips can be counted.
type kind struct {
	name     string
	subjects []string
	sized    []string
	served   bool
}

var kinds = []kind{
	{name: "memory", subjects: []string{"memory"}, sized: []string{"memory", "memory_resident"}},
	{name: "pebble", subjects: []string{"pebble"}, sized: []string{"pebble"}},
	{name: "redis", subjects: []string{"redis"}, sized: []string{"redis"}, served: true},
	{name: "memcached", subjects: []string{"memcached_1", "memcached_2"}, sized: []string{"memcached"}, served: true},
	{name: "nats", subjects: []string{"nats"}, sized: []string{"nats"}, served: true},
	{name: "nats_r3", subjects: []string{"nats_r3"}, served: true},
	{name: "peer", subjects: []string{"peer"}, sized: []string{"peer", "peer_resident"}},
	{name: "postgres", subjects: []string{"postgres"}, sized: []string{"postgres"}, served: true},
	{name: "mariadb", subjects: []string{"mariadb"}, sized: []string{"mariadb"}, served: true},
	{name: "sqlite", subjects: []string{"sqlite"}, sized: []string{"sqlite"}},
}

// ratio is a figure that compares a store with the bare client of its engine: CPU
// time of this process for each operation, or throughput.
type ratio struct {
	name          string
	needs         []string // kinds
	ours, raw, op string
	of            func(s sample) float64
}

var ratios = []ratio{
	{"redis_load_x_rueidis", []string{"redis"}, "redis", "rueidis", "load", cpuOf},
	{"redis_update_x_rueidis", []string{"redis"}, "redis", "rueidis", "update", cpuOf},
	{"redis_load_x_redisconn", []string{"redis"}, "redis", "redisconn", "load", cpuOf},
	{"redis_update_x_redisconn", []string{"redis"}, "redis", "redisconn", "update", cpuOf},
	{"memcached_load_x_gomemcache", []string{"memcached"}, "memcached_1", "gomemcache", "load", cpuOf},
	{"memcached_update_x_gomemcache", []string{"memcached"}, "memcached_1", "gomemcache", "update", cpuOf},
	{"memcached_2_copies_load_x_gomemcache", []string{"memcached"}, "memcached_2", "gomemcache", "load", cpuOf},
	{"memcached_2_copies_update_x_gomemcache", []string{"memcached"}, "memcached_2", "gomemcache", "update", cpuOf},
	{"pebble_update_x_raw", []string{"pebble"}, "pebble", "pebble_raw", "update", rateOf},
	{"nats_load_x_raw", []string{"nats"}, "nats", "nats_raw", "load", rateOf},
	{"nats_update_x_raw", []string{"nats"}, "nats", "nats_raw", "update", rateOf},
	{"nats_r3_update_x_single", []string{"nats", "nats_r3"}, "nats_r3", "nats", "update", rateOf},
}

func rateName(subject, op string) string  { return subject + "_" + op + "_per_second" }
func cpuName(subject, op string) string   { return subject + "_" + op + "_cpu_us" }
func tripsName(subject, op string) string { return subject + "_" + op + "_trips" }

// required are the figures that a run must have, unless what they need is absent.
func required(absent map[string]bool, bytes bool) []string {
	list := []string{"placement_moved", "placement_skew_pct"}
	for _, k := range kinds {
		if absent[k.name] {
			continue
		}
		for _, s := range k.subjects {
			for _, op := range operations {
				list = append(list, rateName(s, op), cpuName(s, op))
				if k.served {
					list = append(list, tripsName(s, op))
				}
			}
		}
		for _, s := range k.sized {
			for _, size := range sizes {
				if bytes {
					list = append(list, bytesName(s, size))
				}
			}
		}
	}
next:
	for _, r := range ratios {
		for _, k := range r.needs {
			if absent[k] {
				continue next
			}
		}
		list = append(list, r.name)
	}
	return list
}

// tell notes that a figure is in the report. One that is no figure is not, nor is
// a speed or a ratio of nothing.
func (b *bench) tell(name string, v float64) {
	whatever := strings.HasPrefix(name, "placement_") || strings.Contains(name, "_bytes_")
	if !math.IsNaN(v) && !math.IsInf(v, 0) && (v > 0 || whatever) {
		b.told[name] = true
	}
}

// figure prints a line.
func (b *bench) figure(name string, v float64, digits int) {
	fmt.Fprintf(b.out, "%s %.*f\n", name, digits, v)
	b.tell(name, v)
}

// missing is an error that names the figures that the run should have printed.
func (b *bench) missing() error {
	var lacks []string
	for _, name := range required(b.absent, b.sessions > 0) {
		if !b.told[name] {
			lacks = append(lacks, name)
		}
	}
	if len(lacks) > 0 {
		return fmt.Errorf("the run has no figure for %s", strings.Join(lacks, ", "))
	}
	return nil
}
