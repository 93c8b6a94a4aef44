// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package health_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway/health"
)

func statuses(t *testing.T, s string) health.Statuses {
	t.Helper()
	list, err := health.ParseStatuses(s)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestExpect(t *testing.T) {
	t.Parallel()
	good := health.Reply{Status: 200, Header: http.Header{"X-Role": {"primary"}}, Body: []byte(`{"db": "ok", "lag": 3}`)}
	for name, tc := range map[string]struct {
		check health.Check
		reply health.Reply
		want  string // part of the error; empty: passes
		nolb  bool
	}{
		"200":                {health.Check{}, good, "", false},
		"399":                {health.Check{}, health.Reply{Status: 399}, "", false},
		"404":                {health.Check{}, health.Reply{Status: 404}, "status 404", false},
		"500":                {health.Check{}, health.Reply{Status: 500}, "status 500", false},
		"status_list":        {health.Check{Expect: health.Expect{Status: statuses(t, "204, 500-599")}}, health.Reply{Status: 503}, "", false},
		"status_not_in_list": {health.Check{Expect: health.Expect{Status: statuses(t, "204,500-599")}}, good, "204,500-599 would pass", false},
		"body":               {health.Check{Expect: health.Expect{Body: `"db": "ok"`}}, good, "", false},
		"body_without":       {health.Check{Expect: health.Expect{Body: "down"}}, good, "without \"down\"", false},
		"regexp":             {health.Check{Expect: health.Expect{Match: regexp.MustCompile(`"lag": \d,?`)}}, good, "", false},
		"regexp_without":     {health.Check{Expect: health.Expect{Match: regexp.MustCompile(`"lag": \d\d`)}}, good, "does not match", false},
		"header":             {health.Check{Expect: health.Expect{Header: "x-role"}}, good, "", false},
		"header_value":       {health.Check{Expect: health.Expect{Header: "X-Role", HeaderValue: "primary"}}, good, "", false},
		"other_value":        {health.Check{Expect: health.Expect{Header: "X-Role", HeaderValue: "replica"}}, good, "another value", false},
		"header_missing":     {health.Check{Expect: health.Expect{Header: "X-Other"}}, good, "without the header X-Other", false},
		"status_and_body":    {health.Check{Expect: health.Expect{Body: "ok"}}, health.Reply{Status: 500, Body: []byte("ok")}, "status 500", false},
		"nolb":               {health.Check{NoLB: statuses(t, "404")}, health.Reply{Status: 404}, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			nolb, err := tc.check.Passes(tc.reply)
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) || nolb != tc.nolb {
				t.Errorf("%v, %v; want %q, %v", nolb, err, tc.want, tc.nolb)
			}
		})
	}
}

func TestParseStatuses(t *testing.T) {
	t.Parallel()
	if got := statuses(t, "200,204, 300-399").String(); got != "200,204,300-399" {
		t.Error(got)
	}
	for _, bad := range []string{"", "ok", "99", "600", "300-200", "200-", "200,,300", "2xx"} {
		if list, err := health.ParseStatuses(bad); err == nil {
			t.Errorf("%q became %v", bad, list)
		}
	}
}

func TestChecksAreTheSameOnlyIfTheyAskAndJudgeAlike(t *testing.T) {
	t.Parallel()
	one := func() health.Check {
		return health.Check{Path: "/h", Header: []string{"A", "b"}, Expect: health.Expect{Status: statuses(t, "200"), Match: regexp.MustCompile("x")}}
	}
	a, b := one(), one()
	if a.String() != b.String() {
		t.Error(a.String(), "!=", b.String())
	}
	for name, change := range map[string]func(*health.Check){
		"path":   func(c *health.Check) { c.Path = "/i" },
		"method": func(c *health.Check) { c.Method = "HEAD" },
		"host":   func(c *health.Check) { c.Host = "x" },
		"header": func(c *health.Check) { c.Header = []string{"A", "c"} },
		"status": func(c *health.Check) { c.Expect.Status = nil },
		"match":  func(c *health.Check) { c.Expect.Match = regexp.MustCompile("y") },
		"nolb":   func(c *health.Check) { c.NoLB = statuses(t, "404") },
		"tcp":    func(c *health.Check) { c.TCP = true },
	} {
		c := one()
		if change(&c); c.String() == a.String() {
			t.Errorf("%s does not count", name)
		}
	}
}

func TestLineAsksWhatTheCheckSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := net.Pipe()
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Echo", strings.Join([]string{r.Method, r.URL.Path, r.Host, r.Header.Get("X")}, " "))
			w.Write([]byte("all is well"))
		})}
		ln := &oneListener{c: make(chan net.Conn, 1)}
		ln.c <- s
		go srv.Serve(ln)
		defer srv.Close()
		l := health.NewLine(t.Context(), c, "app:1")
		defer l.Close()
		check := health.Check{Method: "OPTIONS", Path: "/health", Host: "shop.example", Header: []string{"X", "y"}, Expect: health.Expect{Body: "well"}}
		for range 2 {
			r, err := l.Ask(check.Question())
			if err != nil || r.Header.Get("Echo") != "OPTIONS /health shop.example y" {
				t.Fatal(r, err)
			}
			if _, err := check.Passes(r); err != nil {
				t.Error(err)
			}
		}
		head := health.Check{Method: "HEAD", Path: "/"}
		if r, err := l.Ask(head.Question()); err != nil || r.Status != 200 {
			t.Error(r, err)
		}
	})
}

// timeline runs a prober whose checks fail from one moment on, and returns when
// it checked.
func timeline(t *testing.T, o health.Options, fails func(time.Duration) bool, until time.Duration) (checks []time.Duration, events []string) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		start := time.Now()
		o.Check = func(context.Context) error {
			at := time.Since(start)
			checks = append(checks, at)
			if fails(at) {
				return errors.New("sick")
			}
			return nil
		}
		o.Report = func(up bool, _ error) { events = append(events, map[bool]string{true: "up", false: "down"}[up]) }
		go health.New(o).Run(ctx)
		time.Sleep(until)
		synctest.Wait()
	})
	return checks, events
}

func TestIntervals(t *testing.T) {
	t.Parallel()
	const s = time.Second
	checks, events := timeline(t, health.Options{
		Rule: health.Rule{Rise: 2, Fall: 3}, Interval: 10 * s, FastInterval: s, DownInterval: 5 * s, Timeout: s, Offset: 10 * s,
	}, func(at time.Duration) bool { return at >= 20*s && at < 30*s }, 50*s)
	// Up: every 10 s. In doubt: every second. Down: every 5 s.
	want := []time.Duration{0, 10 * s, 20 * s, 21 * s, 22 * s, 27 * s, 32 * s, 33 * s, 43 * s}
	if !slices.Equal(checks, want) || !slices.Equal(events, []string{"up", "down", "up"}) {
		t.Errorf("checks at %v, want %v; events %v", checks, want, events)
	}
}

func TestStateIsHandedOver(t *testing.T) {
	t.Parallel()
	base := health.Options{Rule: health.Rule{Rise: 2, Fall: 3}, Interval: 10 * time.Second, Timeout: time.Second, Offset: time.Second}
	fails := func(time.Duration) bool { return true }
	for name, tc := range map[string]struct {
		start  *health.State
		events []string
	}{
		"nothing_known":      {nil, nil},
		"up":                 {&health.State{Health: 4}, []string{"down"}}, // three failures
		"one_failure_to_go":  {&health.State{Health: 2}, []string{"down"}},
		"down":               {&health.State{Health: 0}, nil},
		"more_than_the_rule": {&health.State{Health: 99}, []string{"down"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := base
			o.Start = tc.start
			if _, events := timeline(t, o, fails, 5*time.Second); !slices.Equal(events, tc.events) {
				t.Errorf("events %v, want %v", events, tc.events)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		o := base
		o.Report = func(bool, error) {}
		p := health.New(o)
		if p.State() != nil {
			t.Error("a state before the first check")
		}
		o.Start = &health.State{Health: 3}
		p = health.New(o)
		select {
		case <-p.Known():
		default:
			t.Error("it is known, and somebody waits for its first check")
		}
		if s := p.State(); s == nil || s.Health != 3 || !p.Up() {
			t.Error(s)
		}
	})
}
