// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package health_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway/health"
)

func TestRuleCountsInARow(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		rule   health.Rule
		up     bool
		checks string // + pass, - fail
		states string // u up, d down
	}{
		"three_failures_take_it_out":      {health.Rule{2, 3}, true, "---", "uud"},
		"a_pass_between_starts_anew":      {health.Rule{2, 3}, true, "--+--+---", "uuuuuuuud"},
		"two_passes_bring_it_back":        {health.Rule{2, 3}, false, "++", "du"},
		"a_failure_between_starts_anew":   {health.Rule{2, 3}, false, "+-+-++", "dddddu"},
		"one_and_one_is_the_last_answer":  {health.Rule{1, 1}, true, "-+-", "dud"},
		"back_up_it_has_all_its_failures": {health.Rule{2, 3}, false, "++--+", "duuuu"},
	} {
		t.Run(name, func(t *testing.T) {
			h := 0
			if tc.up {
				h = tc.rule.Top()
			}
			var got strings.Builder
			for _, c := range tc.checks {
				h = tc.rule.Step(h, c == '+')
				if tc.rule.Up(h) {
					got.WriteString("u")
				} else {
					got.WriteString("d")
				}
			}
			if got.String() != tc.states {
				t.Errorf("got %s, want %s", got.String(), tc.states)
			}
		})
	}
}

// bench is a prober over a server whose health is a variable.
type bench struct {
	p      *health.Prober
	bad    atomic.Pointer[error]
	start  time.Time
	checks []time.Duration
	events []string
}

func newBench(ctx context.Context) *bench {
	b := &bench{start: time.Now()}
	b.p = health.New(health.Options{
		Rule: health.Rule{Rise: 2, Fall: 3}, Interval: 2 * time.Second, Timeout: time.Second, Offset: time.Second,
		Check: func(context.Context) error {
			b.checks = append(b.checks, time.Since(b.start))
			if err := b.bad.Load(); err != nil {
				return *err
			}
			return nil
		},
		Rising: func(context.Context) { b.events = append(b.events, "rising") },
		Report: func(up bool, _ error) { b.events = append(b.events, fmt.Sprint(up, " ", time.Since(b.start))) },
	})
	go b.p.Run(ctx)
	<-b.p.Known()
	return b
}

func TestFirstCheckAtOnceAndDecides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		b := newBench(ctx)
		time.Sleep(5*time.Second + time.Millisecond)
		synctest.Wait()
		if want := []time.Duration{0, time.Second, 3 * time.Second, 5 * time.Second}; !slices.Equal(b.checks, want) {
			t.Errorf("checks at %v, want %v", b.checks, want)
		}
		if want := []string{"rising", "true 0s"}; !slices.Equal(b.events, want) {
			t.Errorf("events %v, want %v", b.events, want)
		}
	})
}

func TestFailingChecksComeFaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		b := newBench(ctx)
		b.bad.Store(new(errors.New("sick")))
		time.Sleep(1500*time.Millisecond + time.Nanosecond) // failures at 1 s, 1.25 s, 1.5 s
		synctest.Wait()
		if want := []string{"rising", "true 0s", "false 1.5s"}; !slices.Equal(b.events, want) {
			t.Errorf("events %v, want %v", b.events, want)
		}
	})
}

func TestAFactTakesItDownAtOnceAndChecksBringItBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		b := newBench(ctx)
		time.Sleep(100 * time.Millisecond)
		b.p.Down(errors.New("refused"))
		b.p.Down(errors.New("refused again"))
		time.Sleep(time.Second)
		synctest.Wait()
		want := []string{"rising", "true 0s", "false 100ms", "rising", "true 600ms"}
		if !slices.Equal(b.events, want) {
			t.Errorf("events %v, want %v", b.events, want)
		}
	})
}

func TestACheckBegunBeforeTheFactDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var events []bool
		slow := make(chan struct{})
		n := 0
		p := health.New(health.Options{
			Rule: health.Rule{Rise: 1, Fall: 1}, Interval: time.Hour, Timeout: time.Second, Offset: time.Millisecond,
			Check: func(context.Context) error {
				if n++; n == 2 {
					<-slow
				}
				return nil
			},
			Report: func(up bool, _ error) { events = append(events, up) },
		})
		go p.Run(ctx)
		time.Sleep(10 * time.Millisecond)
		p.Down(errors.New("silent"))
		close(slow)
		synctest.Wait()
		if want := []bool{true, false}; !slices.Equal(events, want) {
			t.Fatalf("events %v, want %v", events, want)
		}
	})
}

func TestLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := net.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/hang" {
				<-r.Context().Done()
				return
			}
			w.Header().Set("Echo", r.Host+" "+r.Header.Get("X"))
			w.WriteHeader(503)
			io.WriteString(w, "sick")
		})}
		ln := &oneListener{c: make(chan net.Conn, 1)}
		ln.c <- s
		go srv.Serve(ln)
		defer srv.Close()
		l := health.NewLine(ctx, c, "app:1")
		defer l.Close()
		for range 2 { // the second question goes over the same connection
			status, head, err := l.Get("/health", "X", "y")
			if err != nil || head.Get("Echo") != "app:1 y" {
				t.Fatal(status, head, err)
			}
			if _, err := (&health.Check{}).Passes(health.Reply{Status: status}); err == nil || !strings.Contains(err.Error(), "status 503; 200-399 would pass") {
				t.Error(err)
			}
		}
		time.AfterFunc(time.Second, cancel)
		if _, _, err := l.Get("/hang", "", ""); err == nil {
			t.Error("an answer after the end of the context")
		}
	})
}

type oneListener struct{ c chan net.Conn }

func (l *oneListener) Accept() (net.Conn, error) {
	c, ok := <-l.c
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (l *oneListener) Close() error   { close(l.c); return nil }
func (l *oneListener) Addr() net.Addr { return &net.TCPAddr{} }
