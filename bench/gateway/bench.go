// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/belay-ha/belay/bench/internal/peer"
)

const connections = 64

type bench struct {
	dir     string
	self    string
	rounds  int
	length  time.Duration
	idle    int
	only    peer.List
	kinds   peer.List // of cases
	before  string    // another belay program; empty: none
	apps    []string
	running []*peer.Process
	proxies []*proxy
	missing []string
	results map[string][]result
}

// result is one measurement.
type result struct {
	cpu  float64 // of the proxy, µs per request
	p99  float64 // ms
	rate float64 // requests per second
}

// cases are what is measured.
var cases = []struct {
	name, path string
	tls        bool
}{
	{"small", "small", false}, {"10k", "10k", false}, {"1m", "1m", false}, {"small_tls", "small", true},
}

func (b *bench) run(ctx context.Context) error {
	if _, err := peer.Find("wrk"); err != nil {
		return err
	}
	b.results = map[string][]result{}
	defer func() {
		for _, p := range b.running {
			p.Stop()
		}
	}()
	if err := b.start(ctx); err != nil {
		return err
	}
	scripts := map[string]string{}
	for _, p := range b.proxies {
		if err := b.ready(ctx, p); err != nil {
			return err
		}
		cookies, err := b.cookies(ctx, p)
		if err != nil {
			return err
		}
		if scripts[p.name], err = b.script(p, cookies); err != nil {
			return err
		}
	}
	for round := range b.rounds + 1 {
		for _, c := range cases {
			if !b.kinds.Wants(c.name) {
				continue
			}
			for _, p := range b.proxies {
				if c.tls && p.tls == "" {
					continue
				}
				length := b.length
				if round == 0 {
					length = time.Second // warms up
				}
				r, err := b.measure(ctx, p, c.path, c.tls, scripts[p.name], length)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", p.name, c.name, err)
				}
				if round > 0 {
					b.results[p.name+" "+c.name] = append(b.results[p.name+" "+c.name], r)
				}
			}
		}
	}
	idle := -1.0
	for _, p := range b.proxies {
		if p.name != "belay" || b.idle <= 0 {
			continue
		}
		var err error
		if idle, err = peer.IdleBytes(ctx, p.proc, p.plain, b.idle, "GET /small HTTP/1.1\r\nHost: bench\r\n\r\n"); err != nil {
			return err
		}
	}
	b.print(idle)
	return nil
}

// ready waits until the proxy holds its servers for up.
func (b *bench) ready(ctx context.Context, p *proxy) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		resp, err := get(ctx, "http://"+p.plain+"/small")
		if err == nil && resp.StatusCode == http.StatusOK {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not serve: %w", p.name, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func get(ctx context.Context, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp, err
}

var (
	requestsLine = regexp.MustCompile(`(?m)^\s*(\d+) requests in`)
	rateLine     = regexp.MustCompile(`(?m)^Requests/sec:\s+([\d.]+)`)
	p99Line      = regexp.MustCompile(`(?m)^\s*99%\s+([\d.]+)(us|ms|s)`)
)

func (b *bench) measure(ctx context.Context, p *proxy, path string, tls bool, script string, length time.Duration) (result, error) {
	url := "http://" + p.plain + "/" + path
	if tls {
		url = "https://" + p.tls + "/" + path
	}
	before, err := p.proc.CPU()
	if err != nil {
		before = 0
	}
	ctx, cancel := context.WithTimeout(ctx, length+30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "wrk", "--latency", "-t", "1", "-c", strconv.Itoa(connections), //nolint:gosec // our own addresses
		"-d", fmt.Sprintf("%ds", int(length.Seconds())), "-s", script, url).CombinedOutput()
	if err != nil {
		return result{}, fmt.Errorf("wrk: %w: %s", err, out)
	}
	after, err := p.proc.CPU()
	if err != nil {
		return result{}, err
	}
	return parse(string(out), after-before)
}

// parse reads what wrk prints.
func parse(text string, used time.Duration) (result, error) {
	n := number(requestsLine, text)
	if n < 100 || strings.Contains(text, "Non-2xx") {
		return result{}, fmt.Errorf("wrk saw failures:\n%s", text)
	}
	p99 := number(p99Line, text)
	if m := p99Line.FindStringSubmatch(text); len(m) > 2 {
		p99 *= map[string]float64{"us": 0.001, "ms": 1, "s": 1000}[m[2]]
	}
	return result{cpu: float64(used.Microseconds()) / n, p99: p99, rate: number(rateLine, text)}, nil
}

func number(re *regexp.Regexp, text string) float64 {
	m := re.FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	v, _ := strconv.ParseFloat(m[1], 64)
	return v
}

func (b *bench) median(p, c string, f func(result) float64) float64 {
	return peer.MedianOf(b.results[p+" "+c], f)
}

// times compares the CPU time of a proxy with HAProxy's; 0: one was not measured.
func (b *bench) times(p, c string) float64 {
	return peer.Times(b.results[p+" "+c], b.results["haproxy "+c], func(r result) float64 { return r.cpu })
}

func (b *bench) print(idle float64) {
	fmt.Printf("%d connections, two app servers, medians of %d rounds: CPU µs per request / p99 ms / requests per second\n\n%-9s", connections, b.rounds, "")
	for _, c := range cases {
		fmt.Printf(" %26s", c.name)
	}
	fmt.Println()
	for _, p := range b.proxies {
		fmt.Printf("%-9s", p.name)
		for _, c := range cases {
			if len(b.results[p.name+" "+c.name]) == 0 {
				fmt.Printf(" %26s", "–")
				continue
			}
			fmt.Printf(" %26s", fmt.Sprintf("%.1f / %.1f / %.0f",
				b.median(p.name, c.name, func(r result) float64 { return r.cpu }),
				b.median(p.name, c.name, func(r result) float64 { return r.p99 }),
				b.median(p.name, c.name, func(r result) float64 { return r.rate })))
		}
		fmt.Println()
	}
	fmt.Println()
	for _, m := range b.missing {
		fmt.Println("peer missing:", m)
	}
	if len(b.results["haproxy small"]) > 0 {
		fmt.Printf("haproxy_us %.1f\n", b.median("haproxy", "small", func(r result) float64 { return r.cpu }))
	}
	for _, c := range cases {
		if v := b.times("belay", c.name); v > 0 {
			fmt.Printf("%s_x_haproxy %.2f\n", c.name, v)
		}
	}
	for _, p := range []string{"before", "nginx", "caddy", "floor", "plain"} {
		for _, c := range cases {
			if v := b.times(p, c.name); v > 0 {
				fmt.Printf("%s_%s_x_haproxy %.2f\n", p, c.name, v)
			}
		}
	}
	if idle >= 0 {
		fmt.Printf("idle_conn_bytes %.0f\n", idle)
	}
}
