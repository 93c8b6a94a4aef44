// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-ha/belay/internal/wire"
	"github.com/belay-ha/belay/server/internal/gateway"
	"github.com/belay-ha/belay/server/internal/gateway/edge"
	"github.com/belay-ha/belay/server/internal/gateway/health"
)

// app is an app server. With library set it speaks the attempt protocol as the
// session middleware does; commits counts requests that took effect.
type app struct {
	name    string
	address string // empty: name:80
	library bool
	h2c     bool                      // it speaks HTTP/2
	health  http.HandlerFunc          // nil: passes
	drained func(http.ResponseWriter) // told of every question to flush; nil: nothing
	delay   atomic.Int64              // of every answer
	handler http.HandlerFunc          // nil: answers with its name
	real    http.Handler              // nil: the fake library; else everything but health checks goes there
	runs    atomic.Int64
	commits atomic.Int64
	ln      *memListener
	srv     *http.Server

	mu        sync.Mutex
	frozen    chan struct{} // nil: not
	attempts  map[uint64]wire.Attempt
	requests  []string // method and path of those that ran
	committed []string // and of those that took effect
	asked     []time.Time
}

func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/healthz" {
		if a.health != nil {
			a.health(w, r)
		}
		return
	}
	if a.real != nil {
		a.real.ServeHTTP(w, r)
		return
	}
	if r.URL.Path == wire.ProbePath && !a.library {
		http.NotFound(w, r)
		return
	}
	dead := a.ln.dead
	if p, err := wire.ParseProbe(r.Header.Get(wire.HeaderProbe)); a.library && err == nil && r.URL.Path == wire.ProbePath {
		a.renew(p)
		if r.Header.Get(wire.HeaderDrain) != "" && a.drained != nil {
			a.drained(w)
		}
		w.Header().Set(wire.HeaderProbe, p.Holder)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	at, err := wire.ParseAttempt(r.Header.Get(wire.HeaderAttempt))
	fenced := a.library && err == nil
	refuse := func(why string) {
		w.Header().Set(wire.HeaderAttempt, why)
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	if fenced {
		if time.Now().After(at.Deadline) {
			refuse(wire.AttemptRefused)
			return
		}
		a.mu.Lock()
		a.attempts[at.ID] = at
		a.mu.Unlock()
	}
	a.runs.Add(1)
	a.mu.Lock()
	a.requests = append(a.requests, r.Method+" "+r.URL.Path)
	a.mu.Unlock()
	time.Sleep(time.Duration(a.delay.Load()))
	if d, err := time.ParseDuration(r.URL.Query().Get("work")); err == nil {
		select {
		case <-time.After(d):
		case <-dead: // a killed process does nothing more
			panic(http.ErrAbortHandler)
		}
		a.gate()
	}
	if fenced {
		a.mu.Lock()
		at = a.attempts[at.ID]
		delete(a.attempts, at.ID)
		a.mu.Unlock()
		if time.Now().After(at.Deadline) {
			refuse(wire.AttemptExpired)
			return
		}
	}
	a.commits.Add(1)
	a.mu.Lock()
	a.committed = append(a.committed, r.Method+" "+r.URL.Path)
	a.mu.Unlock()
	if a.handler != nil {
		a.handler(w, r)
		return
	}
	io.WriteString(w, a.name)
}

func (a *app) renew(p wire.Probe) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, time.Now())
	if p.Deadline.IsZero() || time.Now().After(p.Deadline) {
		return
	}
	for id, at := range a.attempts {
		if at.Holder == p.Holder && !slices.Contains(p.Except, id) && !time.Now().After(at.Deadline) {
			at.Deadline = p.Deadline
			a.attempts[id] = at
		}
	}
}

// gate holds a handler of a frozen process.
func (a *app) gate() {
	a.mu.Lock()
	c := a.frozen
	a.mu.Unlock()
	if c != nil {
		<-c
	}
}

func (a *app) freeze() {
	a.mu.Lock()
	a.frozen = make(chan struct{})
	a.mu.Unlock()
	a.ln.freeze(true)
}

func (a *app) thaw() {
	a.mu.Lock()
	close(a.frozen)
	a.frozen = nil
	a.mu.Unlock()
	a.ln.freeze(false)
}

// start brings the process up, also a second time.
func (a *app) start(n *memnet) {
	a.attempts = map[uint64]wire.Attempt{}
	a.ln = n.listen(cmp.Or(a.address, a.name+":80"))
	a.srv = &http.Server{Handler: a, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	if a.h2c {
		a.srv.Protocols = new(http.Protocols)
		a.srv.Protocols.SetUnencryptedHTTP2(true)
	}
	go a.srv.Serve(a.ln)
}

// world is a gateway with app servers behind it and a client before it.
type world struct {
	*testing.T
	net    *memnet
	g      *gateway.Gateway
	apps   []*app
	client *http.Client
	stop   context.CancelFunc // graceful stop of the gateway
	done   chan struct{}      // closed when it has stopped

	slowLog atomic.Int64 // how long a line of the access log takes, in ns

	mu  sync.Mutex
	log bytes.Buffer
}

func (w *world) Write(p []byte) (int, error) {
	time.Sleep(time.Duration(w.slowLog.Load()))
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func config(names ...string) gateway.Config {
	p := gateway.Pool{
		Name: "shop",
		Health: gateway.Health{
			Check: health.Check{Path: "/healthz"}, Rule: health.Rule{Rise: 2, Fall: 3},
			Interval: 2 * time.Second, Timeout: time.Second,
		},
		Sticky:    &gateway.Sticky{Cookie: "belay_server", LiveWindow: time.Minute},
		Balance:   gateway.Balance{MaxQueue: 100, QueueDeadline: 5 * time.Second},
		Retries:   gateway.Retries{Max: 3, Ratio: 0.2, Burst: 100},
		Patience:  300 * time.Millisecond,
		Probe:     200 * time.Millisecond,
		ClockSkew: 250 * time.Millisecond,
		Timeout:   30 * time.Second, ConnectTimeout: time.Second,
	}
	for _, n := range names {
		p.Servers = append(p.Servers, gateway.Server{Name: n, Address: n + ":80", Route: n, Weight: 1})
	}
	return gateway.Config{Pools: []gateway.Pool{p}, Routes: []gateway.Route{{Pool: "shop"}}}
}

// run runs a test in a bubble with n app servers that have the library.
func run(t *testing.T, n int, change func(*gateway.Config, []*app), test func(*world)) {
	t.Helper()
	runWith(t, n, change, nil, test)
}

// runWith is run with other options of the gateway.
func runWith(t *testing.T, n int, change func(*gateway.Config, []*app), options func(*gateway.Options), test func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, net: newMemnet(), done: make(chan struct{})}
		var names []string
		for i := range n {
			a := &app{name: fmt.Sprint("app", i+1), library: true}
			w.apps = append(w.apps, a)
			names = append(names, a.name)
		}
		cfg := config(names...)
		if change != nil {
			change(&cfg, w.apps)
		}
		for _, a := range w.apps {
			a.start(w.net)
		}
		o := &gateway.Options{Access: slog.New(slog.NewJSONHandler(w, nil)), Dial: w.net.dial}
		if options != nil {
			options(o)
		}
		w.g = gateway.New(cfg, o)
		ctx, cancel := context.WithCancel(t.Context())
		background, end := context.WithCancel(context.Background())
		w.stop = cancel
		var wg sync.WaitGroup
		wg.Go(func() { w.g.Run(background) })
		if err := w.g.Ready(ctx); err != nil {
			t.Fatal(err)
		}
		front := w.net.listen("gateway:80")
		e := edge.New(edge.Options{Handler: w.g, Logger: slog.New(slog.DiscardHandler), Grace: 10 * time.Second})
		wg.Go(func() {
			defer close(w.done)
			if err := e.Run(ctx, front); err != nil {
				t.Error(err)
			}
			w.g.CloseTunnels()
		})
		transport := &http.Transport{DialContext: w.net.dial, DisableCompression: true}
		w.client = &http.Client{Transport: transport, Timeout: endless}
		t.Cleanup(func() {
			transport.CloseIdleConnections()
			for _, a := range w.apps {
				a.mu.Lock()
				if a.frozen != nil {
					a.mu.Unlock()
					a.thaw()
				} else {
					a.mu.Unlock()
				}
				a.ln.kill()
				a.srv.Close()
			}
			cancel()
			front.cut()
			<-w.done
			end()
			wg.Wait()
			time.Sleep(time.Minute) // net/http lingers after closing a connection
		})
		test(w)
	})
}

// answer is what a client got, and when.
type answer struct {
	status int
	body   string
	header http.Header
	took   time.Duration
	err    error
}

// do sends a request; kv are header names and values.
func (w *world) do(method, path, body string, kv ...string) answer {
	r, err := http.NewRequestWithContext(w.Context(), method, "http://gateway:80"+path, strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	if body == "" {
		r.Body, r.GetBody = nil, nil
	}
	for i := 0; i+1 < len(kv); i += 2 {
		if kv[i] == "Host" {
			r.Host = kv[i+1]
			continue
		}
		r.Header.Add(kv[i], kv[i+1])
	}
	start := time.Now()
	resp, err := w.client.Do(r)
	if err != nil {
		return answer{err: err, took: time.Since(start)}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, string(b), resp.Header, time.Since(start), err}
}

func (w *world) get(path string, kv ...string) answer { return w.do("GET", path, "", kv...) }

// want fails the test unless an answer is as said, and came at exactly this time.
func (a answer) want(w *world, status int, body string, took time.Duration) {
	w.Helper()
	if a.err != nil || a.status != status || !strings.Contains(a.body, body) || a.took != took {
		w.Errorf("got %d %q after %v (%v), want %d %q after %v", a.status, a.body, a.took, a.err, status, body, took)
	}
}

// stick returns the sticky cookie of a user that is on the server.
func (w *world) stick(server string) string {
	w.Helper()
	for range 10 {
		a := w.get("/")
		if a.body == server {
			v, _, _ := strings.Cut(a.header.Get("Set-Cookie"), ";")
			return v
		}
	}
	w.Fatal("no user came to ", server)
	return ""
}

// lastLog returns the newest line of the access log.
func (w *world) lastLog() map[string]any {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(w.log.String()), "\n")
	m := map[string]any{}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &m); err != nil {
		w.Fatal(err)
	}
	return m
}

// logged returns the access log as it is now.
func (w *world) logged() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

// state returns the state of a server.
func (w *world) state(name string) string {
	for _, s := range w.g.Servers() {
		if s.Name == name {
			return s.State
		}
	}
	return ""
}

// endless is longer than anything takes in a world: what waits until then waits
// for something that does not come.
const endless = 3 * time.Hour

// raw opens a connection to the gateway and writes to it.
func (w *world) raw(text string) (net.Conn, *bufio.Reader) {
	w.Helper()
	c, err := w.net.dial(w.Context(), "tcp", "gateway:80")
	if err != nil {
		w.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(endless))
	io.WriteString(c, text)
	return c, bufio.NewReader(c)
}
