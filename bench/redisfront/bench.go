// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/belay-ha/belay/bench/internal/peer"
)

const (
	direct, belay, haproxy = "direct", "belay", "haproxy"
	clients                = 50
	valueSize              = 1000
)

type bench struct {
	dir                    string
	rounds, requests, idle int

	running []*peer.Process
	relays  map[string]*peer.Process
	addrs   map[string]string
	missing []string
	results map[string][]result // by way and pipeline
}

// result is one measurement.
type result struct {
	rate float64 // requests per second
	cpu  float64 // of the relay, µs per request
}

func (b *bench) run(ctx context.Context) error {
	b.relays, b.addrs, b.results = map[string]*peer.Process{}, map[string]string{}, map[string][]result{}
	defer func() {
		for _, p := range b.running {
			p.Stop()
		}
	}()
	if err := b.start(ctx); err != nil {
		return err
	}
	for round := range b.rounds + 1 {
		for _, pipeline := range []int{1, 16} {
			for _, way := range []string{direct, belay, haproxy} {
				if b.addrs[way] == "" {
					continue
				}
				r, err := b.measure(ctx, way, pipeline)
				if err != nil {
					return fmt.Errorf("%s: %w", way, err)
				}
				if round > 0 { // the first one warms up
					b.results[key(way, pipeline)] = append(b.results[key(way, pipeline)], r)
				}
			}
		}
	}
	bytes, err := peer.IdleBytes(ctx, b.relays[belay], b.addrs[belay], b.idle, "PING\r\n")
	if err != nil {
		return err
	}
	b.print(bytes)
	return nil
}

func key(way string, pipeline int) string { return fmt.Sprintf("%s %d", way, pipeline) }

func (b *bench) start(ctx context.Context) error {
	redis, err := peer.Find("redis-server")
	if err != nil {
		return err
	}
	if _, err := peer.Find("redis-benchmark"); err != nil {
		return err
	}
	if b.addrs[direct], err = peer.FreeAddr(); err != nil {
		return err
	}
	master := b.addrs[direct]
	if _, err := b.process(ctx, "redis", master, redis, "--bind", "127.0.0.1", "--port", peer.Port(master), "--save", "", "--appendonly", "no", "--maxclients", "20000"); err != nil {
		return err
	}
	front := []string{"redis", "front", "--master-name", "bench", "--keep-copy=false"}
	for i := range 3 {
		addr, err := peer.FreeAddr()
		if err != nil {
			return err
		}
		conf := filepath.Join(b.dir, fmt.Sprintf("sentinel-%d.conf", i))
		text := fmt.Sprintf("bind 127.0.0.1\nport %s\nsentinel monitor bench 127.0.0.1 %s 2\n", peer.Port(addr), peer.Port(master))
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			return err
		}
		if _, err := b.process(ctx, "sentinel", addr, redis, conf, "--sentinel"); err != nil {
			return err
		}
		front = append(front, "--sentinel", addr)
	}
	bin, err := peer.Build(ctx, b.dir, "./cmd/belay")
	if err != nil {
		return err
	}
	if b.addrs[belay], err = peer.FreeAddr(); err != nil {
		return err
	}
	command := append([]string{bin}, append(front, "--listen", b.addrs[belay])...)
	if b.relays[belay], err = b.process(ctx, belay, b.addrs[belay], command...); err != nil {
		return err
	}
	return b.startHAProxy(ctx, master)
}

func (b *bench) startHAProxy(ctx context.Context, master string) error {
	bin, err := peer.Find("haproxy")
	if errors.Is(err, peer.ErrMissing) {
		b.missing = append(b.missing, err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	addr, err := peer.FreeAddr()
	if err != nil {
		return err
	}
	conf := filepath.Join(b.dir, "haproxy.cfg")
	text := fmt.Sprintf("global\n  maxconn 4000\ndefaults\n  mode tcp\n  timeout connect 1s\n  timeout client 1h\n  timeout server 1h\nlisten redis\n  bind %s\n  option tcp-check\n  tcp-check send PING\\r\\n\n  tcp-check expect string +PONG\n  server master %s check inter 1s on-marked-down shutdown-sessions\n", addr, master)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return err
	}
	b.addrs[haproxy] = addr
	b.relays[haproxy], err = b.process(ctx, haproxy, addr, bin, "-f", conf, "-db")
	return err
}

func (b *bench) process(ctx context.Context, name, addr string, command ...string) (*peer.Process, error) {
	p, err := peer.Start(ctx, b.dir, name, addr, command...)
	if err == nil {
		b.running = append(b.running, p)
	}
	return p, err
}

func (b *bench) measure(ctx context.Context, way string, pipeline int) (result, error) {
	n := b.requests
	if pipeline > 1 {
		n *= 4
	}
	used := func() (time.Duration, error) {
		if p := b.relays[way]; p != nil {
			return p.CPU()
		}
		return 0, nil
	}
	before, err := used()
	if err != nil {
		before = 0 // none yet
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "redis-benchmark", "-h", "127.0.0.1", "-p", peer.Port(b.addrs[way]), //nolint:gosec // our own addresses
		"-t", "set,get", "-n", strconv.Itoa(n), "-c", strconv.Itoa(clients), "-P", strconv.Itoa(pipeline), "-d", strconv.Itoa(valueSize), "--csv").Output()
	if err != nil {
		return result{}, fmt.Errorf("redis-benchmark: %w", err)
	}
	after, err := used()
	if err != nil {
		return result{}, err
	}
	rate, err := parse(string(out))
	if err != nil {
		return result{}, err
	}
	return result{rate: rate, cpu: float64((after - before).Microseconds()) / float64(tests*n)}, nil
}

// tests are SET and GET.
const tests = 2

// parse reads the requests per second, of both kinds in turn, from redis-benchmark's lines.
func parse(text string) (float64, error) {
	seconds, seen := 0.0, 0
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimSpace(line), ",")
		if len(f) < 2 {
			continue
		}
		if v, err := strconv.ParseFloat(strings.Trim(f[1], `"`), 64); err == nil {
			seconds += 1 / v
			seen++
		}
	}
	if seen != tests {
		return 0, fmt.Errorf("redis-benchmark printed %q", text)
	}
	return tests / seconds, nil
}

func (b *bench) median(way string, pipeline int, f func(result) float64) float64 {
	return peer.MedianOf(b.results[key(way, pipeline)], f)
}

// ratio compares two ways round by round.
func (b *bench) ratio(a, c string, pipeline int, f func(result) float64) float64 {
	return peer.Times(b.results[key(a, pipeline)], b.results[key(c, pipeline)], f)
}

func (b *bench) print(idle float64) {
	rate := func(r result) float64 { return r.rate }
	cpu := func(r result) float64 { return r.cpu }
	fmt.Printf("%d clients, values of %d bytes, SET and GET, medians of %d rounds\n\n", clients, valueSize, b.rounds)
	fmt.Printf("%-10s %10s %16s %16s\n", "", "pipeline", "requests/s", "relay CPU µs")
	for _, pipeline := range []int{1, 16} {
		for _, way := range []string{direct, belay, haproxy} {
			if b.addrs[way] != "" {
				fmt.Printf("%-10s %10d %16.0f %16.2f\n", way, pipeline, b.median(way, pipeline, rate), b.median(way, pipeline, cpu))
			}
		}
	}
	fmt.Println()
	for _, m := range b.missing {
		fmt.Println("peer missing:", m)
	}
	if b.addrs[haproxy] != "" {
		fmt.Printf("throughput_p1_x_haproxy %.2f\n", b.ratio(belay, haproxy, 1, rate))
		fmt.Printf("throughput_p16_x_haproxy %.2f\n", b.ratio(belay, haproxy, 16, rate))
		fmt.Printf("cpu_p1_x_haproxy %.2f\n", b.ratio(belay, haproxy, 1, cpu))
		fmt.Printf("cpu_p16_x_haproxy %.2f\n", b.ratio(belay, haproxy, 16, cpu))
	}
	fmt.Printf("throughput_p16_x_direct %.2f\n", b.ratio(belay, direct, 16, rate))
	fmt.Printf("idle_conn_bytes %.0f\n", idle)
}
