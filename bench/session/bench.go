// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"
)

// connections is how many clients each app has, each with a session of its own.
const connections = 32

const plain = "plain"

// benchCase is one line of the table: an app and which of its pages is asked for.
type benchCase struct {
	name string
	app  string // one of backends
	path string
}

func cases() []benchCase {
	return []benchCase{
		{plain, "plain", pathRead},
		{"shared_mem_read", "shared-mem", pathRead},
		{"shared_mem_write", "shared-mem", pathWrite},
		{"scs_mem_read", "scs-mem", pathRead},
		{"scs_mem_write", "scs-mem", pathWrite},
		{"sticky_read", "sticky-async", pathRead},
		{"sticky_async_write", "sticky-async", pathWrite},
		{"sticky_sync_write", "sticky-sync", pathWrite},
		{"coherent_read", "coherent", pathRead},
		{"coherent_write", "coherent", pathWrite},
		{"redis_get", "redis-get", pathRead},
		{"redis_get_set", "redis-get", pathWrite},
		{"shared_redis_read", "shared-redis", pathRead},
		{"shared_redis_write", "shared-redis", pathWrite},
		{"scs_redis_read", "scs-redis", pathRead},
		{"scs_redis_write", "scs-redis", pathWrite},
		{"gorilla_redis_read", "gorilla-redis", pathRead},
		{"gorilla_redis_write", "gorilla-redis", pathWrite},
	}
}

// sample is one case in one round, for each request.
type sample struct {
	cpu, redis    float64 // µs of CPU
	allocs, bytes float64
	rate          float64 // requests per second
	plain         float64 // cpu of the plain handler just before and just after
}

type bench struct {
	*settings
	notes   io.Writer
	redis   *redisServer // nil: there is none
	apps    map[string]*app
	cases   []benchCase // those that can be measured
	samples map[string][]sample
	cancel  context.CancelFunc
}

// startBench starts the apps, and Redis if some need it.
func startBench(ctx context.Context, s *settings, notes io.Writer) (*bench, error) {
	ctx, cancel := context.WithCancel(ctx)
	b := &bench{settings: s, notes: notes, apps: map[string]*app{}, samples: map[string][]sample{}, cancel: cancel}
	if err := b.start(ctx); err != nil {
		b.stop()
		return nil, err
	}
	return b, nil
}

func (b *bench) start(ctx context.Context) error {
	for _, c := range cases() {
		if !b.selected(&c) {
			continue
		}
		if backends[c.app].redis && b.redis == nil {
			r, err := startRedis(ctx)
			if err != nil {
				return err
			}
			b.redis = r
		}
		if backends[c.app].redis && !b.redis.found() {
			fmt.Fprintf(b.notes, "%s is not measured: neither redis-server nor valkey-server is installed\n", c.name)
			continue
		}
		if b.apps[c.app] == nil {
			a, err := startApp(ctx, c.app, b.redis.address(), b.profiles)
			if err != nil {
				return err
			}
			b.apps[c.app] = a
			if err := a.connect(); err != nil {
				return fmt.Errorf("%s: %w", c.app, err)
			}
		}
		b.cases = append(b.cases, c)
	}
	return nil
}

func (b *bench) stop() {
	b.cancel()
	for _, a := range b.apps {
		a.wait()
	}
	b.redis.wait()
}

// group is how many cases run between two measurements of plain.
const group = 3

// measure runs each case once in each round, every second round in reverse, so
// that what the machine does meanwhile meets them all alike; plain runs between
// them, as often as it takes for none to be far from it. A first round, which is
// shorter, is not counted.
func (b *bench) measure(ctx context.Context) error {
	order := slices.Clone(b.cases[1:])
	for round := range b.rounds + 1 {
		began := time.Now()
		if err := b.round(ctx, round, order); err != nil {
			return err
		}
		slices.Reverse(order)
		if round > 0 {
			fmt.Fprintf(b.notes, "round %d of %d: %.1f s\n", round, b.rounds, time.Since(began).Seconds())
		}
	}
	return nil
}

func (b *bench) round(ctx context.Context, round int, order []benchCase) error {
	requests := b.requests
	if round == 0 {
		requests = max(connections, requests/4)
	}
	before, err := b.once(ctx, &b.cases[0], round, requests)
	if err != nil {
		return err
	}
	all := map[string][]sample{plain: {before}}
	for some := range slices.Chunk(order, group) {
		for _, c := range some {
			s, err := b.once(ctx, &c, round, requests)
			if err != nil {
				return err
			}
			all[c.name] = []sample{s}
		}
		after, err := b.once(ctx, &b.cases[0], round, requests)
		if err != nil {
			return err
		}
		for _, c := range some {
			all[c.name][0].plain = (before.cpu + after.cpu) / 2
		}
		all[plain] = append(all[plain], after)
		before = after
	}
	if round > 0 {
		for name, s := range all {
			b.samples[name] = append(b.samples[name], s...)
		}
	}
	return nil
}

func (b *bench) once(ctx context.Context, c *benchCase, round, requests int) (s sample, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", c.name, err)
		}
	}()
	if err := ctx.Err(); err != nil {
		return s, err
	}
	a := b.apps[c.app]
	requests -= requests % connections
	redis, err := b.redis.cpu()
	if err != nil {
		return s, err
	}
	if err := a.begin(fmt.Sprintf("%s-%d", c.name, round)); err != nil {
		return s, err
	}
	took, err := a.load(c.path, requests/connections)
	if err != nil {
		return s, err
	}
	u, err := a.end()
	if err != nil {
		return s, err
	}
	redisAfter, err := b.redis.cpu()
	if err != nil {
		return s, err
	}
	n := float64(requests)
	return sample{
		cpu:    u.cpu.Seconds() * 1e6 / n,
		redis:  (redisAfter - redis).Seconds() * 1e6 / n,
		allocs: float64(u.allocs) / n,
		bytes:  float64(u.bytes) / n,
		rate:   n / took.Seconds(),
	}, nil
}
