// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/server/internal/gateway"
	"github.com/belay-ha/belay/server/internal/gateway/balance"
	"github.com/belay-ha/belay/server/internal/gateway/health"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
)

// TestChaosApp is an app server, in a process of its own: TestChaos starts the
// test binary with arguments. It notes each request that took effect in a file.
func TestChaosApp(t *testing.T) {
	if flag.NArg() != 3 {
		return
	}
	go func() { // it ends with whoever started it
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	name, address, path := flag.Arg(0), flag.Arg(1), flag.Arg(2)
	done, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	store, err := memstore.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := session.New(store, nil)
	if err != nil {
		t.Fatal(err)
	}
	var slow, reset atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/order", func(_ http.ResponseWriter, r *http.Request) {
		switch n, _ := strconv.ParseInt(r.FormValue("n"), 10, 64); r.FormValue("what") {
		case "slow":
			slow.Store(n)
		case "reset":
			reset.Store(n)
		}
	})
	mux.HandleFunc("/do/{nonce}", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		time.Sleep(time.Duration(rand.Int64N(1+slow.Load())) * time.Millisecond)
		if reset.Add(-1) >= 0 {
			if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
				c.(*net.TCPConn).SetLinger(0)
				c.Close()
			}
			return
		}
		nonce := r.PathValue("nonce")
		if r.Method == http.MethodPost {
			if _, err := io.WriteString(done, nonce+"\n"); err != nil {
				w.WriteHeader(500)
				return
			}
		}
		fmt.Fprintf(w, "%s %s %s %s", name, r.Method, nonce, body)
	})
	t.Error(http.ListenAndServe(address, m.Handler(mux)))
}

// chaosApp is such a process.
type chaosApp struct {
	t             *testing.T
	name, address string
	done          string
	cmd           *exec.Cmd
}

func (a *chaosApp) start() {
	self, err := os.Executable()
	if err != nil {
		a.t.Fatal(err)
	}
	a.cmd = exec.Command(self, "-test.run=^TestChaosApp$", "-test.timeout=0", a.name, a.address, a.done)
	a.cmd.Stderr = os.Stderr
	if _, err := a.cmd.StdinPipe(); err != nil { // closed by Wait
		a.t.Fatal(err)
	}
	if err := a.cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
}

func (a *chaosApp) kill() {
	a.cmd.Process.Kill()
	_ = a.cmd.Wait()
}

func (a *chaosApp) order(ctx context.Context, what string, n int) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	r, _ := http.NewRequestWithContext(ctx, "GET", fmt.Sprintf("http://%s/order?what=%s&n=%d", a.address, what, n), nil)
	if resp, err := http.DefaultClient.Do(r); err == nil {
		resp.Body.Close()
	}
}

// chaosUser sends requests one after another, and judges each answer.
type chaosUser struct {
	t      *testing.T
	id     int
	url    string
	client *http.Client
	cookie string
	rng    *rand.Rand

	said            map[string]string // by nonce of a POST: done, not, unknown
	answers, failed int
}

func (u *chaosUser) ask(ctx context.Context, k int) {
	method := []string{"GET", "POST", "PUT", "POST"}[u.rng.IntN(4)]
	nonce := fmt.Sprintf("%d-%d", u.id, k)
	body := ""
	if method != "GET" {
		body = strings.Repeat("b", u.rng.IntN(2000))
	}
	r, _ := http.NewRequestWithContext(ctx, method, u.url+"/do/"+nonce, strings.NewReader(body))
	if u.cookie != "" {
		r.Header.Set("Cookie", u.cookie)
	}
	verdict := "unknown"
	resp, err := u.client.Do(r)
	if err == nil {
		got, rerr := io.ReadAll(resp.Body)
		resp.Body.Close()
		name, rest, _ := strings.Cut(string(got), " ")
		switch {
		case rerr != nil:
		case resp.StatusCode == 200 && strings.HasPrefix(name, "app") && rest == method+" "+nonce+" "+body:
			verdict = "done"
		case resp.StatusCode == 200:
			u.t.Errorf("wrong answer to %s %s: %.80q", method, nonce, got)
		case resp.StatusCode == 502 || resp.StatusCode == 503 || resp.StatusCode == 504:
			if resp.Header.Get("Belay-Outcome") == "" {
				verdict = "not"
			}
		default:
			u.t.Errorf("%s %s: status %d %.80q", method, nonce, resp.StatusCode, got)
		}
		lines := 0
		for _, line := range resp.Header.Values("Set-Cookie") {
			if v, _, _ := strings.Cut(line, ";"); strings.HasPrefix(v, "belay_server=") {
				u.cookie = v
				lines++
			}
		}
		if lines > 1 {
			u.t.Errorf("%s %s: %d sticky cookies", method, nonce, lines)
		}
	}
	u.answers++
	if verdict != "done" {
		u.failed++
	}
	if method == "POST" && ctx.Err() == nil {
		u.said[nonce] = verdict
	}
}

// Servers are killed, frozen, slowed down, reset and drained at random, and the
// configuration is reloaded, while users go on: no answer is wrong, what was
// acknowledged happened once, what is said not to have happened did not, and
// when it is over nothing has leaked.
func TestChaos(t *testing.T) {
	length := 5 * time.Minute
	if testing.Short() {
		length = 15 * time.Second
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	goroutines, descriptors := runtime.NumGoroutine(), openFiles(t)

	dir := t.TempDir()
	apps := make([]*chaosApp, 3)
	cfg := config()
	p := &cfg.Pools[0]
	p.Health.Interval, p.Balance.SlowStart = 500*time.Millisecond, 2*time.Second
	p.ClockSkew = 50 * time.Millisecond // one clock
	judgedFast(p)
	p.Servers = nil
	for i := range apps {
		a := &chaosApp{t: t, name: fmt.Sprint("app", i), address: freeAddress(t), done: filepath.Join(dir, fmt.Sprint("done", i))}
		apps[i] = a
		p.Servers = append(p.Servers, gateway.Server{Name: a.name, Address: a.address, Weight: 1, MaxInFlight: 50})
		a.start()
		t.Cleanup(a.kill)
	}
	g := gateway.New(cfg, &gateway.Options{Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var running sync.WaitGroup
	running.Go(func() { g.Run(ctx) })
	if err := g.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	front := httptest.NewUnstartedServer(g)
	front.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	front.Start()
	whole(t, g, len(apps))

	users := make([]*chaosUser, 8)
	run, stop := context.WithTimeout(ctx, length)
	defer stop()
	var wg sync.WaitGroup
	for i := range users {
		u := &chaosUser{
			t: t, id: i, url: front.URL, rng: rand.New(rand.NewPCG(seed, uint64(i))), said: map[string]string{},
			client: &http.Client{Transport: &http.Transport{}, Timeout: time.Minute},
		}
		users[i] = u
		wg.Go(func() {
			for k := 0; run.Err() == nil; k++ {
				u.ask(ctx, k)
			}
		})
	}
	faults := chaos(run, g, cfg, apps, rand.New(rand.NewPCG(seed, 99)))
	wg.Wait()
	t.Logf("faults: %v", faults)

	// Once the faults are over, everybody is served.
	whole(t, g, len(apps))
	answers, failed := 0, 0
	for _, u := range users {
		before := u.failed
		u.ask(ctx, 1_000_000)
		if u.failed != before {
			t.Errorf("user %d is not served though all is well", u.id)
		}
		answers += u.answers
		failed += u.failed
		u.client.CloseIdleConnections()
	}
	t.Logf("%d answers, %d of them errors that say what they know", answers, failed)
	if answers < 100 {
		t.Errorf("only %d answers: this proves nothing", answers)
	}
	checkEffects(t, users, apps)

	front.Close()
	g.CloseTunnels()
	cancel()
	running.Wait()
	http.DefaultClient.CloseIdleConnections()
	eventually(t, "goroutines or descriptors leak", func() bool {
		return runtime.NumGoroutine() <= goroutines && openFiles(t) <= descriptors+2*len(apps) // a handle and a pipe for each process
	})
}

func judgedFast(p *gateway.Pool) {
	p.Eject = &health.OutlierRule{
		Consecutive: 10, Interval: time.Second, MinRequests: 20, SuccessMargin: 0.3, LatencyFactor: 5,
		MinLatency: 200 * time.Millisecond, Time: time.Second, MaxTime: 5 * time.Second, MaxPercent: 50,
	}
	p.Balance.Panic = 50
}

// chaos does harm until ctx ends, then repairs everything, and returns what it
// has done how often.
func chaos(ctx context.Context, g *gateway.Gateway, cfg gateway.Config, apps []*chaosApp, rng *rand.Rand) map[string]int {
	did := map[string]int{}
	var deck []string // so that nothing is left out
	pause := func(most int) { _ = waitFor(ctx, time.Duration(50+rng.IntN(most))*time.Millisecond) }
	for ctx.Err() == nil {
		a := apps[rng.IntN(len(apps))]
		if len(deck) == 0 {
			deck = []string{"kill", "freeze", "slow", "reset", "drain", "reload"}
			rng.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		}
		what := deck[0]
		deck = deck[1:]
		did[what]++
		switch what {
		case "kill":
			a.kill()
			pause(500)
			a.start()
		case "freeze":
			a.cmd.Process.Signal(syscall.SIGSTOP)
			pause(2500)
			a.cmd.Process.Signal(syscall.SIGCONT)
		case "slow":
			a.order(ctx, "slow", 100+rng.IntN(900))
			pause(1500)
			a.order(ctx, "slow", 0)
		case "reset":
			a.order(ctx, "reset", 1+rng.IntN(10))
		case "drain":
			_ = g.Drain(a.name, time.Duration(rng.IntN(500))*time.Millisecond+1)
			pause(1000)
			_ = g.SetReady(a.name)
		case "reload":
			next := cfg
			next.Pools = []gateway.Pool{cfg.Pools[0]}
			next.Pools[0].Balance.Algorithm = balance.Algorithm(rng.IntN(6))
			next.Pools[0].Retries.Burst = 100 + rng.IntN(2)
			_ = g.Reload(ctx, next)
		}
		pause(700)
	}
	for _, a := range apps {
		a.order(context.Background(), "slow", 0)
		a.order(context.Background(), "reset", 0)
		_ = g.SetReady(a.name)
	}
	return did
}

func waitFor(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// whole waits until every server is up.
func whole(t *testing.T, g *gateway.Gateway, n int) {
	t.Helper()
	eventually(t, "not every server comes back", func() bool {
		up := 0
		for _, s := range g.Servers() {
			if s.State == "up" || s.State == "starting" {
				up++
			}
		}
		return up == n
	})
}

// checkEffects holds what users were told of their POSTs against what the
// servers did.
func checkEffects(t *testing.T, users []*chaosUser, apps []*chaosApp) {
	t.Helper()
	times := map[string]int{}
	for _, a := range apps {
		f, err := os.Open(a.done)
		if err != nil {
			t.Fatal(err)
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			times[lines.Text()]++
		}
		f.Close()
	}
	for _, u := range users {
		for nonce, said := range u.said {
			switch n := times[nonce]; {
			case n > 1:
				t.Errorf("POST %s ran %d times", nonce, n)
			case said == "done" && n != 1:
				t.Errorf("POST %s was acknowledged and did not run", nonce)
			case said == "not" && n != 0:
				t.Errorf("POST %s ran, though it was said not to", nonce)
			}
		}
	}
}

func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for !happened() {
		if waitFor(ctx, 20*time.Millisecond) != nil {
			buf := make([]byte, 1<<20)
			t.Fatalf("%s\n%s", what, buf[:runtime.Stack(buf, true)])
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if errors.Is(err, os.ErrNotExist) {
		return 0 // not Linux
	}
	return len(list)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	return servertest.FreeAddr(t)
}
