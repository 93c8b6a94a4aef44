// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/bench/internal/peer"
)

// The test binary is also the servers that it starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == serverArg {
		if err := runServer(context.Background(), os.Args[2:], os.Stdout); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// What docs/performance.md has aims for is required of a run, and what each store
// costs.
func TestRequired(t *testing.T) {
	t.Parallel()
	all := required(nil, true)
	for _, name := range []string{
		"redis_load_x_rueidis", "redis_update_x_rueidis", "memcached_load_x_gomemcache", "memcached_update_x_gomemcache",
		"memcached_2_copies_load_x_gomemcache", "memcached_2_copies_update_x_gomemcache",
		"pebble_update_x_raw", "nats_load_x_raw", "placement_moved", "placement_skew_pct",
	} {
		if !slices.Contains(all, name) {
			t.Errorf("%s is not required", name)
		}
	}
	for _, store := range []string{"memory", "pebble", "redis", "memcached_1", "memcached_2", "nats", "nats_r3", "peer", "postgres", "mariadb", "sqlite"} {
		for _, op := range []string{"load", "update", "touch", "create"} {
			for _, of := range []string{"_per_second", "_cpu_us"} {
				if name := store + "_" + op + of; !slices.Contains(all, name) {
					t.Errorf("%s is not required", name)
				}
			}
		}
	}
	for _, store := range []string{"memory", "pebble", "redis", "memcached", "nats", "peer", "postgres", "mariadb", "sqlite"} {
		for _, size := range []string{"512", "1024", "1700", "2048", "4096"} {
			if name := store + "_bytes_" + size; !slices.Contains(all, name) {
				t.Errorf("%s is not required", name)
			}
		}
	}
	for _, name := range []string{"redis_load_trips", "nats_touch_trips", "mariadb_create_trips"} {
		if !slices.Contains(all, name) {
			t.Errorf("%s is not required", name)
		}
	}
	if sorted := slices.Sorted(slices.Values(all)); len(slices.Compact(sorted)) != len(all) {
		t.Error("a name is there twice")
	}
}

func TestWhatIsAbsentIsNotRequired(t *testing.T) {
	t.Parallel()
	for _, name := range required(map[string]bool{"redis": true, "nats_r3": true}, false) {
		if strings.HasPrefix(name, "redis_") || strings.Contains(name, "_r3_") || strings.Contains(name, "_bytes_") {
			t.Errorf("%s is required", name)
		}
	}
}

// A figure that is not printed, or is none, ends the run with its name.
func TestMissing(t *testing.T) {
	t.Parallel()
	b := &bench{out: io.Discard, told: map[string]bool{}, absent: map[string]bool{}}
	for _, k := range kinds {
		b.absent[k.name] = k.name != "pebble"
	}
	for _, name := range required(b.absent, false) {
		b.figure(name, 1, 0)
	}
	if err := b.missing(); err != nil {
		t.Error(err)
	}
	delete(b.told, "pebble_touch_cpu_us")
	b.told["pebble_update_x_raw"] = false
	b.figure("pebble_update_x_raw", 0, 2)
	err := b.missing()
	if err == nil || !strings.HasSuffix(err.Error(), "pebble_touch_cpu_us, pebble_update_x_raw") {
		t.Error(err)
	}
}

// Rounds are compared one by one: what slows a whole round cancels out.
func TestRatio(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	b := &bench{out: &out, told: map[string]bool{}, samples: map[figure][]sample{
		{"ours", "load"}: {{cpu: 20, rate: 1}, {cpu: 80, rate: 1}, {cpu: 60, rate: 1}},
		{"raw", "load"}:  {{cpu: 10, rate: 2}, {cpu: 40, rate: 4}, {cpu: 20, rate: 4}},
	}}
	b.ratio(ratio{name: "cpu", ours: "ours", raw: "raw", op: "load", of: cpuOf})
	b.ratio(ratio{name: "rate", ours: "ours", raw: "raw", op: "load", of: rateOf})
	b.ratio(ratio{name: "absent", ours: "ours", raw: "raw", op: "touch", of: rateOf})
	if got := out.String(); got != "cpu 2.00\nrate 0.25\n" {
		t.Errorf("%q", got)
	}
	if got := median([]float64{4, 1, 3, 2}); got != 2.5 {
		t.Errorf("median: %v", got)
	}
}

func TestSelected(t *testing.T) {
	t.Parallel()
	for only, want := range map[string]string{"": "nats nats_r3 redis", "nats": "nats nats_r3", "r3,red": "nats_r3 redis", "x": ""} {
		var got []string
		for _, name := range []string{"nats", "nats_r3", "redis"} {
			if s := (&settings{only: only}); s.selected(name) {
				got = append(got, name)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %v, want %s", only, got, want)
		}
	}
}

// A request that follows an answer is a round trip, in however many pieces it comes.
func TestRelayCountsRoundTrips(t *testing.T) {
	t.Parallel()
	needs(t, "redis-server", "valkey-server")
	b := &bench{settings: settings{only: "redis", rounds: 1, length: time.Millisecond}, dir: t.TempDir(), notes: io.Discard, absent: map[string]bool{}}
	defer b.stop()
	if err := b.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.measure(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, op := range operations {
		if got := b.tripsPer[figure{"redis", op}]; got != 1 {
			t.Errorf("%s: %v round trips, want 1", op, got)
		}
	}
}

func needs(t *testing.T, programs ...string) {
	t.Helper()
	if _, err := peer.Find(programs...); err != nil {
		if os.Getenv("BELAY_REQUIRE_SERVERS") == "1" {
			t.Fatalf("%v, and BELAY_REQUIRE_SERVERS=1", err)
		}
		t.Skip(err)
	}
}

var figureLine = regexp.MustCompile(`(?m)^([a-z0-9_]+) -?[0-9.]+$`)

// A run prints each of its figures once, and nothing else in their form.
func TestRun(t *testing.T) {
	only := "memory,pebble,redis,memcached,sqlite"
	if !testing.Short() {
		only = ""
	}
	var out, notes strings.Builder
	err := run(t.Context(), []string{"-rounds", "1", "-each", "5ms", "-sessions", "50", "-only", only}, &out, &notes)
	if err != nil {
		t.Fatal(err, notes.String())
	}
	count := map[string]int{}
	for _, m := range figureLine.FindAllStringSubmatch(out.String(), -1) {
		count[m[1]]++
	}
	for _, name := range []string{"memory_bytes_512", "memory_resident_bytes_4096", "pebble_bytes_2048", "sqlite_bytes_1700", "pebble_update_x_raw", "placement_moved", "placement_skew_pct"} {
		if count[name] != 1 {
			t.Errorf("%s is printed %d times", name, count[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(count)) {
		if count[name] > 1 || !slices.Contains(required(nil, true), name) {
			t.Errorf("%s is printed %d times and may not be", name, count[name])
		}
	}
	if !strings.Contains(out.String(), "placement_moved 0\n") {
		t.Error("adding a node moves sessions")
	}
}

func TestWrongArguments(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"more":           "unexpected argument",
		"-rounds 0":      "at least 1 round",
		"-each 1us":      "at least 1 round",
		"-sessions -1":   "at least 1 round",
		"-no-such-thing": "not defined",
	} {
		if err := run(t.Context(), strings.Fields(args), io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
}

// Records are of the size that the report names, and cannot be compressed.
func TestRecord(t *testing.T) {
	t.Parallel()
	a, b := record(encoded), record(encoded)
	if n := len(a.Attrs[0].Value); n < encoded-200 || n >= encoded {
		t.Errorf("a value of %d bytes in a record of %d", n, encoded)
	}
	if string(a.Attrs[0].Value) == string(b.Attrs[0].Value) {
		t.Error("values are equal: they would compress")
	}
	if a.Expires.Before(time.Now()) {
		t.Error("a record is born dead")
	}
	if first, second := newID(), newID(); first == second {
		t.Error("an id is given twice")
	}
}
