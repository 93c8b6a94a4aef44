// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisfront_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/server/internal/redisfront"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/redisstore"
)

// front is one that runs, with the addresses it listens on.
type front struct {
	*redisfront.Front
	addr, replicas string
	stop           func() // and wait
}

func startFront(t *testing.T, g *servertest.Group, change ...func(*redisfront.Config)) front {
	t.Helper()
	cfg := redisfront.Config{
		Name: "test", MasterName: servertest.SentinelName, Sentinels: g.Addrs(),
		Listen: "127.0.0.1:0", ListenReplicas: "127.0.0.1:0", KeepCopy: true,
	}
	for _, c := range change {
		c(&cfg)
	}
	addrs := map[string]chan string{"listen": make(chan string, 1), "listen_replicas": make(chan string, 1)}
	f, err := redisfront.New(cfg, &redisfront.Options{
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Listen: func(_ context.Context, key, address string) (net.Listener, error) {
			ln, err := net.Listen("tcp", address)
			if err == nil {
				addrs[key] <- ln.Addr().String()
			}
			return ln, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	fr := front{Front: f, addr: <-addrs["listen"], stop: func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		done <- nil
	}}
	if cfg.ListenReplicas != "" {
		fr.replicas = <-addrs["listen_replicas"]
	}
	t.Cleanup(func() { cancel(); <-done; done <- nil })
	return fr
}

// leads waits until writers are led to a node, and returns the change.
func (f front) leads(t *testing.T, to servertest.Redis, epoch uint64) redisfront.Change {
	t.Helper()
	var c redisfront.Change
	until(t, "the front leads to "+to.Addr(), func() error {
		s := f.Status()
		if !s.Open || s.Master != to.Addr() || s.Epoch < epoch {
			return fmt.Errorf("open %v, master %s, epoch %d: %s", s.Open, s.Master, s.Epoch, s.Reason)
		}
		i := slices.IndexFunc(s.Changes, func(c redisfront.Change) bool { return c.Open && c.Master == to.Addr() && c.Epoch >= epoch })
		c = s.Changes[i]
		return nil
	})
	return c
}

func (f front) holds(t *testing.T) {
	t.Helper()
	until(t, "the front holds", func() error {
		if s := f.Status(); s.Open {
			return fmt.Errorf("it leads to %s", s.Master)
		}
		return nil
	})
}

// group is a pair of nodes on disk that three sentinels watch.
func group(t *testing.T) *servertest.Group {
	t.Helper()
	g := servertest.StartGroup(t, servertest.GroupOptions{
		DownAfter: time.Second, Args: []string{"--appendonly", "yes", "--appendfsync", "everysec", "--repl-diskless-sync-delay", "0"},
	})
	return g
}

// guarded starts a dead node again through the guard.
func guarded(t *testing.T, g *servertest.Group, n servertest.Redis) {
	t.Helper()
	command, err := redisfront.Guard(t.Context(), redisfront.GuardConfig{
		MasterName: servertest.SentinelName, Sentinels: g.Addrs(), Self: n.Addr(), Command: n.CommandLine(),
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	n.RestartWith(command)
}

// switched waits until a majority of the sentinels names another node than old,
// which may be past answering, and says when that was seen.
func switched(t *testing.T, g *servertest.Group, old servertest.Redis) (fresh servertest.Redis, at time.Time) {
	t.Helper()
	until(t, "another node is master", func() error {
		votes := map[string]int{}
		for _, s := range g.Sentinels {
			if a, ok := s.Must("SENTINEL", "GET-MASTER-ADDR-BY-NAME", servertest.SentinelName).([]any); ok {
				votes[fmt.Sprint(a[0], ":", a[1])]++
			}
		}
		for _, n := range g.Nodes {
			if n.Addr() != old.Addr() && votes[n.Addr()] >= 2 {
				fresh, at = n, time.Now()
				return nil
			}
		}
		return fmt.Errorf("votes %v", votes)
	})
	return fresh, at
}

const someKeys = 300

// fill gives the master keys that nobody touches: a wiped replica has lost them.
func fill(t *testing.T, g *servertest.Group) {
	t.Helper()
	m := g.Master()
	for i := range someKeys {
		m.Must("SET", "kept:"+strconv.Itoa(i), "x")
	}
	for _, r := range g.Replicas() {
		r.AwaitCopy(m)
	}
}

func kept(t *testing.T, g *servertest.Group) {
	t.Helper()
	for _, n := range g.Nodes {
		if _, err := n.Do("PING"); err != nil {
			continue // dead on purpose
		}
		until(t, "all keys are on "+n.Addr(), func() error {
			have := 0
			for i := range someKeys {
				if v, _ := n.Do("GET", "kept:"+strconv.Itoa(i)); v == "x" {
					have++
				}
			}
			if have < someKeys {
				return fmt.Errorf("%d of %d", have, someKeys)
			}
			return nil
		})
	}
}

// Every fault of the table: no two masters are written to, nothing that a
// replica has acknowledged is lost, and no replica is emptied.
func TestFaults(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault func(t *testing.T, g *servertest.Group, old servertest.Redis)
		heal  func(old servertest.Redis)
	}{
		{"killed", func(_ *testing.T, _ *servertest.Group, old servertest.Redis) { old.Kill() }, nil},
		{"frozen", func(_ *testing.T, _ *servertest.Group, old servertest.Redis) { old.Freeze() }, func(old servertest.Redis) { old.Thaw() }},
		{"restarted_empty", func(t *testing.T, g *servertest.Group, old servertest.Redis) {
			old.Kill()
			old.Clear()
			guarded(t, g, old)
		}, nil},
		{"restarted_at_once", func(t *testing.T, g *servertest.Group, old servertest.Redis) {
			old.Kill()
			guarded(t, g, old)
		}, nil},
		{"cut_off_from_the_sentinels", func(_ *testing.T, _ *servertest.Group, old servertest.Redis) {
			// Everybody else still gets answers from it.
			old.Must("ACL", "SETUSER", "sentinel", "off")
			old.Must("ACL", "SETUSER", "default", "-ping") // whom they are without a login
			old.Must("CLIENT", "KILL", "USER", "sentinel")
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := servertest.StartGroup(t, servertest.GroupOptions{
				DownAfter:    time.Second,
				Args:         []string{"--appendonly", "yes", "--repl-diskless-sync-delay", "0", "--user", "sentinel", "on", "nopass", "+@all", "~*", "&*"},
				SentinelUser: "sentinel",
			})
			fill(t, g)
			f := startFront(t, g)
			old := g.Master()
			f.leads(t, old, 0)
			u := startUsers(t, 20, f.addr)
			u.forget()

			began := time.Now()
			tt.fault(t, g, old)
			fresh, promoted := switched(t, g, old)
			c := f.leads(t, fresh, 1)
			t.Logf("led to the new master %v after the fault, %v after a majority of the sentinels was seen to name it",
				c.At.Sub(began).Round(time.Millisecond), max(0, c.At.Sub(promoted)).Round(time.Millisecond))
			u.await(100)
			u.check(fresh)
			u.oneMaster(2)
			if tt.heal != nil {
				tt.heal(old)
			}
			kept(t, g)
			for i, c := range f.Status().Changes[1:] {
				if b := f.Status().Changes[i]; c.Epoch < b.Epoch {
					t.Errorf("from epoch %d to %d", b.Epoch, c.Epoch)
				}
			}
		})
	}
}

// A front that sees no majority cuts its writers, though the master is well; the
// other front, and the users that it has, go on.
func TestFrontCutOffFromTheMajority(t *testing.T) {
	g := group(t)
	var relays []*servertest.Relay
	var via []string
	for _, a := range g.Addrs() {
		r := servertest.StartRelay(t, a)
		relays, via = append(relays, r), append(via, r.Addr())
	}
	lone := startFront(t, g, func(c *redisfront.Config) { c.Sentinels = via })
	well := startFront(t, g)
	master := g.Master()
	lone.leads(t, master, 0)
	well.leads(t, master, 0)
	c, err := dial(lone.addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.do([]string{"SET", "a", "1"}); err != nil {
		t.Fatal(err)
	}
	relays[0].Set(servertest.Fault{Mode: servertest.Cut})
	u := startUsers(t, 10, lone.addr, well.addr) // two of three are a majority still
	relays[1].Set(servertest.Fault{Mode: servertest.Silent})
	lone.holds(t)
	if _, err := c.do([]string{"SET", "a", "2"}); err == nil {
		t.Error("a write passed a front that sees one sentinel of three")
	}
	u.await(200)
	for _, r := range relays {
		r.Restore()
	}
	lone.leads(t, master, 0)
	u.check(master)
	u.oneMaster(1)
}

// One front of two dies: its users reach the other.
func TestOneFrontOfTwoDies(t *testing.T) {
	g := group(t)
	first, second := startFront(t, g), startFront(t, g)
	first.leads(t, g.Master(), 0)
	second.leads(t, g.Master(), 0)
	u := startUsers(t, 10, first.addr, second.addr)
	first.stop()
	u.await(200)
	u.check(g.Master())
	u.oneMaster(1)
}

// A planned fail-over and the way back, under load: no write is lost, those
// without WAIT included, and nobody is told anything but to come again.
func TestPlannedFailOverAndBack(t *testing.T) {
	g := group(t)
	f := startFront(t, g)
	old := g.Master()
	f.leads(t, old, 0)
	u := startUsers(t, 20, f.addr)
	u.forget()
	for range 2 {
		from := g.Master()
		to := g.Replicas()[0]
		until(t, "the replica may take over", func() error {
			err := f.FailOver(t.Context(), to.Addr())
			if err != nil && !errors.Is(err, redisfront.ErrNotReady) {
				t.Fatal(err)
			}
			return err
		})
		if got, _ := switched(t, g, from); got.Addr() != to.Addr() {
			t.Fatalf("the sentinels follow to %s, want %s", got.Addr(), to.Addr())
		}
		u.await(100)
		g.AwaitWhole()
	}
	u.end()
	for i, want := range u.acked {
		text, _ := old.Must("GET", fmt.Sprintf("user:%d", i)).(string)
		if have, _ := strconv.Atoi(text); have < want {
			t.Errorf("user %d: %d acknowledged, %d there", i, want, have)
		}
	}
	for why := range u.errs {
		if why != "cut" && why != "READONLY" && why != "UNBLOCKED" {
			t.Errorf("a client was told %q", why)
		}
	}
	u.check(old)
}

// Fail-back happens by itself, once the preferred node is whole again.
func TestFailBack(t *testing.T) {
	g := group(t)
	preferred := g.Master()
	f := startFront(t, g, func(c *redisfront.Config) {
		c.FailBack = redisfront.FailBack{To: preferred.Addr(), After: 2 * time.Second, Every: time.Minute}
	})
	f.leads(t, preferred, 0)
	preferred.Kill()
	fresh := g.AwaitSwitch(preferred)
	f.leads(t, fresh, 1)
	guarded(t, g, preferred)
	f.leads(t, preferred, 2)
	g.AwaitWhole()
	if got := g.Master(); got.Addr() != preferred.Addr() {
		t.Errorf("the sentinels say %s", got.Addr())
	}
}

// The switch: a write needs a copy while there is one to be had, and no longer
// once the other node is given up. Without KeepCopy the front leaves it alone.
func TestKeepCopy(t *testing.T) {
	for _, keep := range []bool{true, false} {
		t.Run(fmt.Sprint(keep), func(t *testing.T) {
			g := group(t)
			f := startFront(t, g, func(c *redisfront.Config) { c.KeepCopy = keep })
			m := g.Master()
			f.leads(t, m, 0)
			needs := func(want string) {
				t.Helper()
				until(t, "min-replicas-to-write "+want, func() error {
					if got := m.Must("CONFIG", "GET", "min-replicas-to-write").([]any)[1]; got != want {
						return fmt.Errorf("it is %v", got)
					}
					return nil
				})
			}
			if !keep {
				until(t, "a look at the copy", func() error {
					if s := f.Status(); len(s.Nodes) < 2 || s.Nodes[0].Role == "" || s.Nodes[1].Role == "" {
						return errors.New("not yet")
					}
					return nil
				})
				needs("0")
				return
			}
			needs("1")
			other := g.Replicas()[0]
			other.Kill()
			needs("0")
			until(t, "an alarm", func() error {
				if s := f.Status(); len(s.Alarms) == 0 {
					return fmt.Errorf("%+v", s)
				}
				return nil
			})
			other.Restart()
			needs("1")
		})
	}
}

// Readers get a replica that keeps up, and none that does not.
func TestReplicas(t *testing.T) {
	g := group(t)
	f := startFront(t, g)
	m, r := g.Master(), g.Replicas()[0]
	f.leads(t, m, 0)
	m.Must("SET", "a", "1")
	r.AwaitCopy(m)
	c, err := dial(f.replicas)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.do([]string{"GET", "a"}); got != "1" || err != nil {
		t.Error(got, err)
	}
	if _, err := c.do([]string{"SET", "a", "2"}); reason(err) != "READONLY" {
		t.Errorf("a write at the readers' listener: %v", err)
	}
	// It replicates nobody the sentinels know: not to be read from.
	r.Must("REPLICAOF", "127.0.0.1", "1")
	until(t, "the reader is cut", func() error {
		if _, err := c.do([]string{"GET", "a"}); err == nil {
			return errors.New("it still reads")
		}
		return nil
	})
}

// Fail-over and back under 200 writers, again and again: what a replica has
// acknowledged is never lost; the rest is counted and printed.
func TestAgainAndAgain(t *testing.T) {
	rounds := 3
	if !testing.Short() {
		rounds = 20
	}
	g := group(t)
	fill(t, g)
	f := startFront(t, g)
	preferred := g.Master()
	f.leads(t, preferred, 0)
	lost := 0
	for round := range rounds {
		u := startUsers(t, 200, f.addr)
		u.forget()
		preferred.Kill()
		fresh, _ := switched(t, g, preferred)
		u.await(400)
		u.oneMaster(2)
		lost += u.check(fresh)
		guarded(t, g, preferred)
		g.AwaitWhole()
		back := startUsers(t, 200, f.addr)
		until(t, "the way back", func() error {
			err := f.FailOver(t.Context(), preferred.Addr())
			if err != nil && !errors.Is(err, redisfront.ErrNotReady) {
				t.Fatal(err)
			}
			return err
		})
		back.await(400)
		back.oneMaster(2)
		if got, _ := switched(t, g, fresh); got.Addr() != preferred.Addr() {
			t.Fatalf("the sentinels say %s", got.Addr())
		}
		g.AwaitWhole() // they end connections while they follow
		if n := back.check(preferred); n > 0 {
			t.Errorf("round %d: %d acknowledged writes lost on the planned way back", round, n)
		}
	}
	kept(t, g)
	t.Logf("%d rounds, %d writes lost that no replica had acknowledged", rounds, lost)
}

// The session library lives through a fail-over: no request fails, and no
// acknowledged change is lost on a planned one. After a kill the replica may lack
// the last writes that nobody waited for, and the time to live through is longer.
func TestSessionsLiveThroughAFailOver(t *testing.T) {
	t.Run("planned", func(t *testing.T) {
		sessionsLive(t, nil, true, func(f front, g *servertest.Group) {
			to := g.Replicas()[0]
			until(t, "a planned fail-over", func() error { return f.FailOver(t.Context(), to.Addr()) })
		})
	})
	t.Run("killed", func(t *testing.T) {
		patient := &session.Options{Timeout: 30 * time.Second, CommitTimeout: 30 * time.Second}
		sessionsLive(t, patient, false, func(_ front, g *servertest.Group) { g.Master().Kill() })
	})
}

func sessionsLive(t *testing.T, opts *session.Options, exact bool, fault func(front, *servertest.Group)) {
	g := group(t)
	f := startFront(t, g)
	f.leads(t, g.Master(), 0)
	store, err := redisstore.Open(t.Context(), "redis://"+f.addr+"/0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if opts == nil {
		opts = &session.Options{}
	}
	opts.Cookie.Insecure = true
	m, err := session.New(store, opts)
	if err != nil {
		t.Fatal(err)
	}
	visits := session.NewKey[int]("visits")
	app := httptest.NewServer(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		if err != nil {
			m.Error(w, r, err)
			return
		}
		fmt.Fprint(w, visits.Update(s, func(n int) int { return n + 1 }))
	})))
	defer app.Close()

	stop := make(chan struct{})
	var requests atomic.Int64
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			jar, _ := cookiejar.New(nil)
			client := &http.Client{Jar: jar}
			for want := 1; ; want++ {
				select {
				case <-stop:
					return
				default:
				}
				resp, err := client.Get(app.URL)
				if err != nil {
					t.Error(err)
					return
				}
				body, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if resp.StatusCode != 200 || exact && string(body) != strconv.Itoa(want) {
					t.Errorf("visit %d: %d %s", want, resp.StatusCode, body)
					return
				}
				requests.Add(1)
			}
		})
	}
	more := func(n int64) {
		from := requests.Load()
		until(t, "more requests", func() error {
			if requests.Load() < from+n && !t.Failed() {
				return fmt.Errorf("%d", requests.Load()-from)
			}
			return nil
		})
	}
	more(100)
	fault(f, g)
	more(200)
	close(stop)
	wg.Wait()
	t.Logf("%d requests", requests.Load())
}
