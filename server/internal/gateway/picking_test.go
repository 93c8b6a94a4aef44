// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-ha/belay/internal/wire"
	"github.com/belay-ha/belay/server/internal/gateway"
	"github.com/belay-ha/belay/server/internal/gateway/balance"
	"github.com/belay-ha/belay/server/internal/gateway/health"
)

// pool changes the pool of a world before it begins.
func pool(change func(*gateway.Pool)) func(*gateway.Config, []*app) {
	return func(c *gateway.Config, _ []*app) { change(&c.Pools[0]) }
}

func count(w *world, n int, kv ...string) map[string]int {
	got := map[string]int{}
	for range n {
		got[w.get("/", kv...).body]++
	}
	return got
}

func TestWeightsFromTheConfiguration(t *testing.T) {
	run(t, 3, pool(func(p *gateway.Pool) {
		p.Sticky = nil
		p.Servers[0].Weight, p.Servers[2].Backup = 3, true
	}), func(w *world) {
		if got := count(w, 8); got["app1"] != 6 || got["app2"] != 2 {
			w.Error(got)
		}
	})
}

func TestHashBy(t *testing.T) {
	for name, tc := range map[string]struct {
		by   gateway.HashBy
		kv   func(k int) []string
		path func(k int) string
	}{
		"header": {gateway.HashBy{What: gateway.HashHeader, Name: "X-Tenant"}, func(k int) []string { return []string{"X-Tenant", fmt.Sprint(k)} }, nil},
		"cookie": {gateway.HashBy{What: gateway.HashCookie, Name: "tenant"}, func(k int) []string { return []string{"Cookie", fmt.Sprint("a=b; tenant=", k)} }, nil},
		"path":   {gateway.HashBy{What: gateway.HashPath}, nil, func(k int) string { return fmt.Sprint("/", k) }},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, 3, pool(func(p *gateway.Pool) {
				p.Sticky = nil
				p.Balance.Algorithm, p.Balance.HashBy = balance.Hash, tc.by
			}), func(w *world) {
				used := map[string]bool{}
				for k := range 12 {
					path, kv := "/", []string(nil)
					if tc.path != nil {
						path = tc.path(k)
					} else {
						kv = tc.kv(k)
					}
					first := w.get(path, kv...).body
					used[first] = true
					for range 3 {
						if again := w.get(path, kv...).body; again != first {
							w.Fatalf("key %d went to %s and %s", k, first, again)
						}
					}
				}
				if len(used) != 3 {
					w.Error("only", used)
				}
			})
		})
	}
	t.Run("client_ip", func(t *testing.T) {
		run(t, 3, pool(func(p *gateway.Pool) { p.Sticky, p.Balance.Algorithm = nil, balance.Hash }), func(w *world) {
			if got := count(w, 9); len(got) != 1 { // all come from one address
				w.Error(got)
			}
		})
	})
}

func TestFirstUsesTheFirst(t *testing.T) {
	run(t, 2, pool(func(p *gateway.Pool) { p.Sticky, p.Balance.Algorithm = nil, balance.First }), func(w *world) {
		if got := count(w, 5); got["app1"] != 5 {
			w.Error(got)
		}
	})
}

func TestSlowStartAfterADeath(t *testing.T) {
	run(t, 2, pool(func(p *gateway.Pool) { p.Sticky, p.Balance.SlowStart = nil, 10*time.Second }), func(w *world) {
		w.apps[0].ln.kill()
		w.get("/")
		w.get("/")
		w.apps[0].start(w.net)
		for w.state("app1") != "starting" {
			time.Sleep(100 * time.Millisecond)
		}
		if got := count(w, 40); got["app1"] > 10 {
			w.Error("a server that has just come back got", got)
		}
		time.Sleep(10 * time.Second)
		if got := count(w, 40); w.state("app1") != "up" || got["app1"] != 20 {
			w.Error(w.state("app1"), got)
		}
	})
}

// What a server says of itself with its health decides what it gets.
func TestServersReportLoadAndWeight(t *testing.T) {
	var weight, load atomic.Value
	var status atomic.Int64
	weight.Store("")
	load.Store("")
	status.Store(200)
	run(t, 2, func(c *gateway.Config, apps []*app) {
		p := &c.Pools[0]
		p.Health.NoLB = health.Statuses{{From: 404, To: 404}}
		apps[0].health = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(wire.HeaderWeight, weight.Load().(string))
			w.Header().Set(wire.HeaderLoad, load.Load().(string))
			w.WriteHeader(int(status.Load()))
		}
	}, func(w *world) {
		c := w.stick("app1")
		for _, tc := range []struct {
			weight, load string
			status       int64
			state        string
			want         int // of 30 new users
		}{
			{"", "", 200, "up", 15},
			{"50", "", 200, "up", 10},
			{"", "50", 200, "up", 10},
			{"0", "", 200, "nolb", 0},
			{"nonsense", "101", 200, "up", 15},
			{"", "", 404, "nolb", 0},
			{"", "", 200, "up", 15},
		} {
			weight.Store(tc.weight)
			load.Store(tc.load)
			status.Store(tc.status)
			time.Sleep(3 * time.Second)
			if got := count(w, 30)["app1"]; w.state("app1") != tc.state || got < tc.want-1 || got > tc.want+1 {
				w.Errorf("%+v: %s, %d new users", tc, w.state("app1"), got)
			}
			w.get("/", "Cookie", c).want(w, 200, "app1", 0) // who is there stays
		}
	})
}

// busy sends n requests that work for a while, and returns when they are at work.
func busy(w *world, n int, wg *sync.WaitGroup, path string, kv ...string) *[]answer {
	list := make([]answer, n)
	for i := range n {
		wg.Go(func() { list[i] = w.get(path, kv...) })
	}
	synctest.Wait()
	return &list
}

func TestQueue(t *testing.T) {
	run(t, 1, pool(func(p *gateway.Pool) {
		p.Sticky = nil
		p.Servers[0].MaxInFlight = 1
		p.Balance.MaxQueue, p.Balance.QueueDeadline = 2, time.Second
	}), func(w *world) {
		var wg sync.WaitGroup
		busy(w, 1, &wg, "/?work=600ms")
		waiting := busy(w, 2, &wg, "/?work=600ms")
		a := w.get("/")
		a.want(w, 503, "busy", 0) // the queue is full
		if a.header.Get("Retry-After") == "" || w.lastLog()["outcome"] != "queue_full" {
			w.Error(a.header, w.lastLog())
		}
		wg.Wait()
		got := map[string]int{}
		for _, a := range *waiting {
			got[fmt.Sprint(a.status, " ", a.took)]++
		}
		// The first one got the place after 600 ms; the second one's patience ended at 1 s.
		if got["200 1.2s"] != 1 || got["503 1s"] != 1 {
			w.Error(got)
		}
		if n := w.g.Servers()[0].InFlight; n != 0 {
			w.Error(n, "are in flight after all is over")
		}
	})
}

func TestWhoLeavesTheQueueMakesRoom(t *testing.T) {
	run(t, 1, pool(func(p *gateway.Pool) {
		p.Servers[0].MaxInFlight, p.Balance.MaxQueue = 1, 1
	}), func(w *world) {
		var wg sync.WaitGroup
		busy(w, 1, &wg, "/?work=1s")
		ctx, cancel := context.WithCancel(w.Context())
		wg.Go(func() {
			r, _ := http.NewRequestWithContext(ctx, "GET", "http://gateway:80/", nil)
			if resp, err := w.client.Do(r); err == nil {
				resp.Body.Close()
				w.Error("answered", resp.Status)
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		time.Sleep(10 * time.Millisecond)
		w.get("/").want(w, 200, "app1", 990*time.Millisecond)
		wg.Wait()
	})
}

// A user is not moved off his server because it has much to do.
func TestAStickyUserWaitsForHisBusyServer(t *testing.T) {
	run(t, 2, pool(func(p *gateway.Pool) { p.Servers[0].MaxInFlight = 1 }), func(w *world) {
		c := w.stick("app1")
		var wg sync.WaitGroup
		busy(w, 1, &wg, "/?work=700ms", "Cookie", c)
		w.get("/", "Cookie", c).want(w, 200, "app1", 700*time.Millisecond)
		w.get("/").want(w, 200, "app", 0)
		wg.Wait()
	})
}

func sessionCookie(route string) string {
	t := wire.Token{Route: route}
	copy(t.ID[:], "some session")
	return "__Host-id=" + t.String()
}

func TestRouteOfTheSessionIsFollowed(t *testing.T) {
	run(t, 3, pool(func(p *gateway.Pool) { p.Sticky.SessionCookie, p.Sticky.Cookie = "__Host-id", "" }), func(w *world) {
		for range 3 {
			a := w.get("/", "Cookie", "x=1; "+sessionCookie("app3"))
			a.want(w, 200, "app3", 0)
			if a.header["Set-Cookie"] != nil {
				w.Error("a cookie of the gateway's own:", a.header)
			}
		}
		for _, other := range []string{sessionCookie("elsewhere"), "__Host-id=garbage~rapp3", sessionCookie("")} {
			if got := count(w, 6, "Cookie", other); len(got) != 3 {
				w.Errorf("%s: all to %v", other, got)
			}
		}
		w.apps[2].ln.kill()
		if a := w.get("/", "Cookie", sessionCookie("app3")); a.status != 200 || a.body == "app3" {
			w.Error(a)
		}
	})
}

func TestRouteOfTheSessionBeatsTheCookie(t *testing.T) {
	run(t, 2, pool(func(p *gateway.Pool) { p.Sticky.SessionCookie = "__Host-id" }), func(w *world) {
		c := w.stick("app1")
		a := w.get("/", "Cookie", c+"; "+sessionCookie("app2"))
		a.want(w, 200, "app2", 0)
		if v := cookieOf(a); v == "" || v == c {
			w.Error("the cookie still names the other server:", a.header)
		}
	})
}

func TestOnFailure(t *testing.T) {
	for name, tc := range map[string]struct {
		on     balance.OnFailure
		status int
		cookie bool   // a new one
		after  string // where he is once his server is back
	}{
		"move":   {balance.Move, 200, true, "app2"},
		"return": {balance.Return, 200, false, "app1"},
		"fail":   {balance.Fail, 503, false, "app1"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, 2, pool(func(p *gateway.Pool) { p.Sticky.OnFailure = tc.on }), func(w *world) {
				c := w.stick("app1")
				w.apps[0].ln.kill()
				for range 2 { // found out by this request, and known
					a := w.get("/", "Cookie", c)
					if a.status != tc.status || (cookieOf(a) != "") != tc.cookie {
						w.Errorf("%d %q %v", a.status, a.body, a.header)
					}
					if tc.cookie {
						c = cookieOf(a)
						break
					}
				}
				w.apps[0].start(w.net)
				time.Sleep(5 * time.Second)
				w.get("/", "Cookie", c).want(w, 200, tc.after, 0)
			})
		})
	}
}

func TestANewKeyMovesNobody(t *testing.T) {
	old, fresh := []byte("0123456789abcdef"), []byte("fedcba9876543210")
	run(t, 3, pool(func(p *gateway.Pool) { p.Sticky.Keys = [][]byte{old} }), func(w *world) {
		c := w.stick("app2")
		w.reload(func(c *gateway.Config) { c.Pools[0].Sticky.Keys = [][]byte{fresh, old} })
		a := w.get("/", "Cookie", c)
		a.want(w, 200, "app2", 0)
		if v := cookieOf(a); v == "" || v == c {
			w.Error("the cookie was not written with the new key:", a.header)
		}
		w.reload(func(c *gateway.Config) { c.Pools[0].Sticky.Keys = [][]byte{fresh} })
		w.get("/", "Cookie", cookieOf(a)).want(w, 200, "app2", 0)
	})
}

func judged(p *gateway.Pool) {
	p.Eject = &health.OutlierRule{
		Consecutive: 3, Interval: 10 * time.Second, MinRequests: 5, SuccessMargin: 0.3, LatencyFactor: 3,
		MinLatency: 50 * time.Millisecond, Time: 30 * time.Second, MaxTime: time.Minute, MaxPercent: 50,
	}
	p.Balance.Panic = 30
}

func TestServersThatFailAreEjected(t *testing.T) {
	run(t, 3, func(c *gateway.Config, apps []*app) {
		judged(&c.Pools[0])
		apps[0].handler = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }
	}, func(w *world) {
		failed, errors := "", 0
		for range 30 {
			a := w.get("/", "Cookie", failed)
			if a.status == 500 {
				errors++
				failed = cookieOf(a)
			}
		}
		if errors != 3 || w.state("app1") != "ejected" {
			w.Errorf("%d errors, then %s", errors, w.state("app1"))
		}
		if s := w.g.Servers()[0]; s.EjectedUntil == nil || s.Weight != 0 {
			w.Errorf("%+v", s)
		}
		time.Sleep(31 * time.Second)
		if w.state("app1") != "up" {
			w.Error("still", w.state("app1"))
		}
	})
}

func TestSlowServersKeepTheirUsers(t *testing.T) {
	run(t, 3, func(c *gateway.Config, apps []*app) { judged(&c.Pools[0]) }, func(w *world) {
		c := w.stick("app1")
		w.apps[0].delay.Store(int64(200 * time.Millisecond))
		for range 30 {
			w.get("/")
		}
		time.Sleep(10 * time.Second)
		if w.state("app1") != "nolb" {
			w.Fatal(w.state("app1"))
		}
		if got := count(w, 10); got["app1"] != 0 {
			w.Error(got)
		}
		w.get("/", "Cookie", c).want(w, 200, "app1", 200*time.Millisecond)
	})
}

// An app that says 503 since its store is away is no worse than the others.
func TestUnavailableIsNoFailure(t *testing.T) {
	run(t, 2, func(c *gateway.Config, apps []*app) {
		judged(&c.Pools[0])
		apps[0].handler = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }
		c.Pools[0].Eject.SuccessMargin = 0
	}, func(w *world) {
		for range 20 {
			w.get("/")
		}
		if w.state("app1") != "up" {
			w.Error(w.state("app1"))
		}
	})
}

func TestRetriesAreBounded(t *testing.T) {
	for name, tc := range map[string]struct {
		retries gateway.Retries
		outcome string
		runs    int64
	}{
		"by_request": {gateway.Retries{Max: 1, Burst: 100}, "too_many_retries", 2},
		"by_budget":  {gateway.Retries{Max: 10, Burst: 2}, "retry_budget", 3},
		"unbounded":  {gateway.Retries{Max: -1, Burst: -1}, "broken", 6},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, 6, func(c *gateway.Config, apps []*app) {
				c.Pools[0].Retries = tc.retries
				for _, a := range apps { // a request that breaks every server it comes to
					a.handler = func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
				}
			}, func(w *world) {
				a := w.get("/deadly")
				if a.status != 502 || a.header.Get("Belay-Outcome") != "unknown" || w.lastLog()["outcome"] != tc.outcome {
					w.Error(a, w.lastLog())
				}
				var runs int64
				for _, a := range w.apps {
					runs += a.runs.Load()
				}
				if runs != tc.runs {
					w.Errorf("ran %d times, want %d", runs, tc.runs)
				}
			})
		})
	}
}

// Moving off a server that is known to be dead costs no budget: else a big pool
// could not lose a server.
func TestARefusedConnectionCostsNoBudget(t *testing.T) {
	run(t, 3, pool(func(p *gateway.Pool) { p.Retries = gateway.Retries{} }), func(w *world) {
		c := w.stick("app1")
		w.apps[0].ln.kill()
		w.do("POST", "/", "x", "Cookie", c).want(w, 200, "app", 0)
	})
}

func TestDrainShowsWhoIsLeft(t *testing.T) {
	run(t, 2, nil, func(w *world) {
		c := w.stick("app1")
		for k := range 40 {
			tok := wire.Token{}
			copy(tok.ID[:], fmt.Sprint("user ", k))
			w.get("/", "Cookie", c+"; id="+tok.String())
		}
		live := func() int { return *w.g.Servers()[0].LiveSessions }
		if n := live(); n < 39 || n > 42 {
			w.Errorf("%d users are there, want 40 and the one without a session", n)
		}
		if err := w.g.Drain("app1", 5*time.Minute); err != nil {
			w.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		w.get("/", "Cookie", c)
		time.Sleep(50 * time.Second)
		if n := live(); n != 1 {
			w.Errorf("%d users are left, want the one who came of late", n)
		}
		time.Sleep(time.Minute)
		if n := live(); n != 0 {
			w.Errorf("%d users are left", n)
		}
	})
}

// A draining server is asked to store what it holds, again and again, and a last
// time when its users begin to move.
func TestDrainFlushes(t *testing.T) {
	var mu sync.Mutex
	var asked []time.Duration
	var start time.Time
	left := "7"
	run(t, 2, func(_ *gateway.Config, apps []*app) {
		apps[0].drained = func(w http.ResponseWriter) {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, time.Since(start))
			w.Header().Set(wire.HeaderDrain, left)
		}
		apps[1].drained = func(http.ResponseWriter) { panic("a server that is not drained was asked") }
	}, func(w *world) {
		mu.Lock()
		start = time.Now()
		mu.Unlock()
		if err := w.g.Drain("app1", 3*time.Second); err != nil {
			w.Fatal(err)
		}
		synctest.Wait()
		if s := w.g.Servers()[0]; s.Unflushed == nil || *s.Unflushed != 7 {
			w.Errorf("%+v", s)
		}
		mu.Lock()
		left = "0"
		mu.Unlock()
		time.Sleep(10 * time.Second)
		if s := w.g.Servers()[0]; s.Unflushed == nil || *s.Unflushed != 0 {
			w.Errorf("%+v", s)
		}
		mu.Lock()
		got := fmt.Sprint(asked)
		asked = nil
		mu.Unlock()
		if got != "[0s 2s 3s]" {
			w.Error("asked at", got)
		}
		if err := w.g.SetReady("app1"); err != nil {
			w.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if err := w.g.Maintenance("app1"); err != nil { // they move at once: once
			w.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		if len(asked) != 1 || w.g.Servers()[0].Unflushed != nil {
			w.Error("asked", asked)
		}
	})
}

// Nobody but the gateway may ask that.
func TestClientsCannotAskForAFlush(t *testing.T) {
	run(t, 1, func(_ *gateway.Config, apps []*app) { apps[0].handler = echo }, func(w *world) {
		body := w.get("/", "Belay-Drain", "1", "Belay_Drain", "1").body
		if strings.Contains(strings.ToLower(body), "drain") {
			w.Error(body)
		}
	})
}

func TestHealthCheckIsAskedAsConfigured(t *testing.T) {
	var seen atomic.Value
	run(t, 1, func(c *gateway.Config, apps []*app) {
		h := &c.Pools[0].Health
		h.Method, h.Host, h.Header = "HEAD", "shop.example", []string{"X-Deep", "yes"}
		h.Expect.Header, h.Expect.HeaderValue = "X-Role", "primary"
		apps[0].health = func(w http.ResponseWriter, r *http.Request) {
			seen.Store(r.Method + " " + r.Host + " " + r.Header.Get("X-Deep"))
			w.Header().Set("X-Role", "primary")
		}
	}, func(w *world) {
		if got := seen.Load(); got != "HEAD shop.example yes" || w.state("app1") != "up" {
			w.Error(got, w.state("app1"))
		}
	})
}

func TestTCPCheck(t *testing.T) {
	run(t, 2, func(c *gateway.Config, apps []*app) {
		c.Pools[0].Health.TCP = true
		apps[0].health = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) } // nobody asks
	}, func(w *world) {
		w.apps[1].ln.kill()
		time.Sleep(10 * time.Second)
		if w.state("app1") != "up" || w.state("app2") != "down" {
			w.Error(w.state("app1"), w.state("app2"))
		}
	})
}

// A drain is over at its deadline for connections that were upgraded, too; one
// without a deadline lets them be, and so does maintenance.
func TestDrainEndsTunnelsAtItsDeadline(t *testing.T) {
	for name, tc := range map[string]struct {
		order func(*gateway.Gateway) error
		cut   bool
	}{
		"drain":               {func(g *gateway.Gateway) error { return g.Drain("app1", 10*time.Second) }, true},
		"of_the_other_server": {func(g *gateway.Gateway) error { return g.Drain("app2", 10*time.Second) }, false},
		"called_off":          {func(g *gateway.Gateway) error { _ = g.Drain("app1", 10*time.Second); return g.SetReady("app1") }, false},
		"without_deadline":    {func(g *gateway.Gateway) error { return g.Drain("app1", 0) }, false},
		"maintenance":         {func(g *gateway.Gateway) error { return g.Maintenance("app1") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, 2, func(_ *gateway.Config, apps []*app) { apps[0].handler = upgraded }, func(w *world) {
				w.apps[0].handler = func(rw http.ResponseWriter, r *http.Request) {
					if r.Header.Get("Upgrade") == "" {
						fmt.Fprint(rw, "app1")
						return
					}
					upgraded(rw, r)
				}
				cookie := w.stick("app1")
				c, br := w.raw("GET / HTTP/1.1\r\nHost: x\r\nCookie: " + cookie + "\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
				defer c.Close()
				if line, _ := br.ReadString('\n'); !strings.Contains(line, "101") {
					w.Fatal(line)
				}
				if err := tc.order(w.g); err != nil {
					w.Fatal(err)
				}
				var ended atomic.Int64
				start := time.Now()
				go func() {
					_, _ = io.Copy(io.Discard, br)
					ended.Store(int64(time.Since(start)))
				}()
				time.Sleep(time.Minute)
				if got := time.Duration(ended.Load()); (got == 10*time.Second) != tc.cut || !tc.cut && got != 0 {
					w.Errorf("the tunnel ended after %v", got)
				}
			})
		})
	}
}

// An answer with a user's cookie in it is nobody else's, whatever the app said.
func TestAnswersWithOurCookieArePrivate(t *testing.T) {
	for said, want := range map[string]string{
		"":                                       "private",
		"public, max-age=60":                     "max-age=60, private",
		"max-age=60, s-maxage=600, PUBLIC":       "max-age=60, private",
		"no-store":                               "no-store",
		"private":                                "private",
		"no-cache, private=\"x-a\"":              "no-cache, private",
		"max-age=5\x00stale-while-revalidate=10": "max-age=5, stale-while-revalidate=10, private",
	} {
		run(t, 1, func(_ *gateway.Config, apps []*app) {
			apps[0].handler = func(w http.ResponseWriter, _ *http.Request) {
				for line := range strings.SplitSeq(said, "\x00") {
					if line != "" {
						w.Header().Add("Cache-Control", line)
					}
				}
			}
		}, func(w *world) {
			a := w.get("/")
			if got := a.header.Values("Cache-Control"); len(got) != 1 || got[0] != want {
				w.Errorf("%q became %q, want %q", said, got, want)
			}
			// Without a cookie nothing is changed.
			if got := strings.Join(w.get("/", "Cookie", cookieOf(a)).header.Values("Cache-Control"), "\x00"); got != said {
				w.Errorf("%q became %q", said, got)
			}
		})
	}
}
