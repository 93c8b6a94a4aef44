// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/belay-ha/belay/internal/wire"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
	"github.com/belay-ha/belay/session/near"
)

// The model tests run random schedules of readers, writers, touchers, renewers,
// destroyers and freezers against servers that share a store, in every mode, and
// look at each history: nothing acknowledged is lost, nothing refused has taken
// effect, nothing is revived, and a single value behaves as if the requests had
// come one after another.

func schedules(t *testing.T, short int) int {
	t.Helper()
	if testing.Short() {
		return short
	}
	return 3_400 // in each of three modes
}

var (
	marks    = session.NewKey("marks", session.Merge(mergeMarks)) // what was written by whom
	register = session.NewKey[int]("register")
)

// mergeMarks is a union: marks are only ever added.
func mergeMarks(_, mine, theirs map[int]bool) map[int]bool {
	out := maps.Clone(theirs)
	if out == nil {
		out = map[int]bool{}
	}
	maps.Copy(out, mine)
	return out
}

type modelKey struct{}

// cluster is some servers over one store.
type cluster struct {
	servers []http.Handler
	ms      []*session.Manager
}

func newCluster(t *testing.T, mode session.Mode) *cluster {
	t.Helper()
	store, err := memstore.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{}
	for i := range 3 {
		o := &session.Options{Mode: mode}
		switch mode {
		case session.Coherent:
			if o.Cache, err = near.New(nil); err != nil {
				t.Fatal(err)
			}
			o.MaxStale = time.Nanosecond // other clients' changes show at once, so that they can be judged
		case session.Sticky:
			o.Route, o.MaxStale = fmt.Sprint("n", i), time.Nanosecond
		}
		m, err := session.New(store, o)
		if err != nil {
			t.Fatal(err)
		}
		c.ms = append(c.ms, m)
		c.servers = append(c.servers, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s, err := m.Get(r.Context())
			if err != nil {
				m.Error(w, r, err)
				return
			}
			r.Context().Value(modelKey{}).(func(*http.Request, *session.Session))(r, s)
		})))
	}
	return c
}

// do sends one request of a client with these cookies to a server.
func (c *cluster) do(server int, cookies []*http.Cookie, attempt *wire.Attempt, f func(*http.Request, *session.Session)) *http.Response {
	r := httptest.NewRequest("POST", "https://example.com/", nil)
	for _, k := range cookies {
		r.AddCookie(&http.Cookie{Name: k.Name, Value: k.Value})
	}
	if attempt != nil {
		r.Header.Set(wire.HeaderAttempt, attempt.String())
	}
	w := httptest.NewRecorder()
	c.servers[server].ServeHTTP(w, r.WithContext(contextWith(r, f)))
	return w.Result()
}

func contextWith(r *http.Request, f func(*http.Request, *session.Session)) context.Context {
	return context.WithValue(r.Context(), modelKey{}, f)
}

// thaw returns when the deadline has passed: until then the request is frozen.
func thaw(deadline time.Time) {
	<-time.After(time.Until(deadline) + 2*time.Millisecond)
}

func TestModelNothingIsLostOrRevived(t *testing.T) {
	for mode, name := range map[session.Mode]string{session.Shared: "shared", session.Coherent: "coherent", session.Sticky: "sticky"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for i := range schedules(t, 170) {
				seed := rand.Uint64()
				if err := oneSchedule(t, mode, rand.New(rand.NewPCG(seed, 1))); err != nil {
					t.Fatalf("schedule %d, seed %d: %v", i, seed, err)
				}
			}
		})
	}
}

func oneSchedule(t *testing.T, mode session.Mode, rng *rand.Rand) error {
	c := newCluster(t, mode)
	first := c.do(0, nil, nil, func(r *http.Request, s *session.Session) {
		marks.Set(s, map[int]bool{0: true})
		_ = s.Renew(r.Context(), session.ForUser("42"))
	})
	cookies := first.Cookies()
	var (
		mu        sync.Mutex
		wg        sync.WaitGroup
		acked     = map[int]bool{0: true} // marks that were acknowledged under the first token
		refused   = map[int]bool{}        // marks of attempts that were refused
		destroyed bool
		thawed    bool // a frozen request was answered as if nothing had happened
		renewed   []*http.Cookie
	)
	for n := 1; n <= 10; n++ {
		server, kind := rng.IntN(3), rng.IntN(12)
		wg.Go(func() {
			add := func(s *session.Session) {
				v, _ := marks.Get(s)
				v = maps.Clone(v)
				if v == nil {
					v = map[int]bool{}
				}
				v[n] = true
				marks.Set(s, v)
			}
			switch {
			case kind < 5: // writer
				if res := c.do(server, cookies, nil, func(_ *http.Request, s *session.Session) { add(s) }); res.StatusCode == http.StatusOK {
					mu.Lock()
					acked[n] = true
					mu.Unlock()
				}
			case kind < 7: // reader
				c.do(server, cookies, nil, func(_ *http.Request, s *session.Session) { marks.Get(s) })
			case kind < 9: // freezer: wakes up after its deadline
				a := &wire.Attempt{Holder: "gw", ID: uint64(n), Deadline: time.Now().Add(2 * time.Millisecond)}
				res := c.do(server, cookies, a, func(_ *http.Request, s *session.Session) {
					add(s)
					thaw(a.Deadline)
				})
				mu.Lock()
				refused[n] = true
				thawed = thawed || res.StatusCode == http.StatusOK
				mu.Unlock()
			case kind < 10: // renewer
				res := c.do(server, cookies, nil, func(r *http.Request, s *session.Session) {
					if s.Owner() != "" {
						_ = s.Renew(r.Context())
					}
				})
				if k := res.Cookies(); res.StatusCode == http.StatusOK && len(k) == 1 && k[0].MaxAge >= 0 && k[0].Value[:28] != cookies[0].Value[:28] {
					mu.Lock()
					renewed = k
					mu.Unlock()
				}
			case kind < 11: // destroyer
				if res := c.do(server, cookies, nil, func(r *http.Request, s *session.Session) {
					if s.Owner() != "" {
						_ = s.Destroy(r.Context())
					}
				}); res.StatusCode == http.StatusOK {
					mu.Lock()
					destroyed = true
					mu.Unlock()
				}
			default: // user of Once
				c.do(server, cookies, nil, func(_ *http.Request, s *session.Session) { s.Once(fmt.Sprint(n)) })
			}
		})
	}
	wg.Wait()
	look := func(k []*http.Cookie) (owner string, have map[int]bool) {
		for server := range c.servers {
			c.do(server, k, nil, func(_ *http.Request, s *session.Session) {
				owner += s.Owner()
				have, _ = marks.Get(s)
			})
		}
		return owner, have
	}
	owner, have := look(cookies)
	switch {
	case thawed:
		return fmt.Errorf("a request that was frozen past its deadline was answered 200")
	case destroyed && owner != "":
		return fmt.Errorf("revived: logged in as %q after an acknowledged log-out", owner)
	case renewed != nil && owner != "":
		return fmt.Errorf("the old token is logged in as %q after a renewal", owner)
	}
	switch {
	case renewed != nil:
		// Whoever renewed carried over what was acknowledged before; what was
		// acknowledged after it went to a session that is dead.
		if owner, have = look(renewed); owner != "424242" {
			return fmt.Errorf("the new token is logged in as %q on the three servers", owner)
		}
	case destroyed:
	case owner != "424242":
		return fmt.Errorf("nobody logged out, and the servers say %q", owner)
	default:
		for n := range acked {
			if !have[n] {
				return fmt.Errorf("lost: mark %d was acknowledged, there are %v", n, slices.Sorted(maps.Keys(have)))
			}
		}
	}
	for n := range refused {
		if have[n] {
			return fmt.Errorf("mark %d of a refused attempt has taken effect", n)
		}
	}
	return nil
}

type registerInput struct {
	write bool
	value int
}

// registerModel is a value that requests read and set.
var registerModel = porcupine.Model{
	Init: func() any { return 0 },
	Step: func(state, input, output any) (bool, any) {
		in := input.(registerInput)
		if in.write {
			return true, in.value
		}
		return output.(int) == state.(int), state
	},
	Equal: func(a, b any) bool { return a == b },
}

// TestModelLinearizable: reads and writes of one value, in parallel on three
// servers, have an order that explains every answer.
func TestModelLinearizable(t *testing.T) {
	for range schedules(t, 100) / 5 {
		seed := rand.Uint64()
		rng := rand.New(rand.NewPCG(seed, 2))
		c := newCluster(t, session.Shared)
		cookies := c.do(0, nil, nil, func(_ *http.Request, s *session.Session) { register.Set(s, 0) }).Cookies()
		var (
			mu  sync.Mutex
			ops []porcupine.Operation
			wg  sync.WaitGroup
		)
		began := time.Now()
		for client := range 4 {
			var plan []registerInput
			for i := range 5 {
				plan = append(plan, registerInput{rng.IntN(2) == 0, client*100 + i + 1})
			}
			wg.Go(func() {
				for i, in := range plan {
					op := porcupine.Operation{ClientId: client, Input: in, Call: int64(time.Since(began))}
					got := 0
					res := c.do((client+i)%3, cookies, nil, func(_ *http.Request, s *session.Session) {
						if in.write {
							register.Set(s, in.value)
							return
						}
						got, _ = register.Get(s)
					})
					if res.StatusCode != http.StatusOK {
						t.Errorf("status %d", res.StatusCode)
					}
					op.Output, op.Return = got, int64(time.Since(began))
					mu.Lock()
					ops = append(ops, op)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if !porcupine.CheckOperations(registerModel, ops) {
			t.Fatalf("seed %d: no order of the requests explains their answers", seed)
		}
	}
}
