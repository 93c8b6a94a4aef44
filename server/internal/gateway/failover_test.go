// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway"
)

// bound is the longest wait for a dead server: patience, probe and clock skew.
const bound = 750 * time.Millisecond

func TestKilledBeforeSend(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		t.Run(method, func(t *testing.T) {
			run(t, 2, nil, func(w *world) {
				c := w.stick("app1")
				w.apps[0].ln.kill()
				w.do(method, "/x", "", "Cookie", c).want(w, 200, "app2", 0)
				if w.state("app1") != "down" {
					w.Error("still", w.state("app1"))
				}
				if l := w.lastLog(); l["attempts"] != 2.0 || l["retries"].([]any)[0] != "refused" || l["tried"].([]any)[0] != "app1" {
					w.Error(l)
				}
			})
		})
	}
}

// killedWhileWorking kills app1 100 ms into a request that works for a second.
func killedWhileWorking(w *world, method string, kv ...string) answer {
	c := w.stick("app1")
	time.AfterFunc(100*time.Millisecond, w.apps[0].ln.kill)
	return w.do(method, "/x?work=1s", "body", append(kv, "Cookie", c)...)
}

func TestKilledAfterSend(t *testing.T) {
	// The process is known to be dead: its port refuses. Nothing to wait for.
	for name, tc := range map[string]struct {
		method string
		kv     []string
		status int
		body   string
		took   time.Duration
		runs   int64 // on the other server
	}{
		"idempotent_moves_at_once": {"PUT", nil, 200, "app2", 1100 * time.Millisecond, 1},
		"keyed_moves_at_once":      {"POST", []string{"Idempotency-Key", "k"}, 200, "app2", 1100 * time.Millisecond, 1},
		"keyless_is_unknown":       {"POST", nil, 502, "outcome is unknown", 100 * time.Millisecond, 0},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, 2, nil, func(w *world) {
				before := w.apps[1].runs.Load()
				a := killedWhileWorking(w, tc.method, tc.kv...)
				a.want(w, tc.status, tc.body, tc.took)
				if n := w.apps[1].runs.Load() - before; n != tc.runs {
					w.Errorf("ran %d times on the other server, want %d", n, tc.runs)
				}
				if (a.header.Get("Belay-Outcome") == "unknown") != (tc.status == 502) {
					w.Error("Belay-Outcome:", a.header)
				}
				synctest.Wait()
				if w.state("app1") != "down" {
					w.Error("still", w.state("app1"))
				}
				if l := w.lastLog(); tc.status == 200 && (l["attempts"] != 2.0 || l["retries"].([]any)[0] != "dead" || l["server"] != "app2") {
					w.Error(l)
				}
			})
		})
	}
}

func TestBrokenByALivingProcessWaitsForTheFence(t *testing.T) {
	run(t, 2, nil, func(w *world) {
		c := w.stick("app1")
		w.apps[0].ln.cut() // so that the next connection is a new one: no stale one to blame
		time.AfterFunc(100*time.Millisecond, w.apps[0].ln.cut)
		w.do("PUT", "/x?work=1s", "", "Cookie", c).want(w, 200, "app2", bound+time.Second)
		if n := w.apps[0].commits.Load(); n > 1 { // the first is the user's first page
			w.Errorf("the broken attempt took effect after it was moved (%d commits)", n)
		}
	})
}

func TestRenewalsDoNotKeepAliveWhatWasGivenUp(t *testing.T) {
	run(t, 2, nil, func(w *world) {
		c := w.stick("app1")
		before := w.apps[0].commits.Load()
		var wg sync.WaitGroup
		wg.Go(func() { w.get("/report?work=2s", "Cookie", c).want(w, 200, "app1", 2*time.Second) }) // renewed at 300 ms
		wg.Go(func() {
			time.Sleep(50 * time.Millisecond)
			// Broken at 100 ms, but still at work on app1 until 750 ms; its deadline was 550 ms.
			w.do("PUT", "/x?work=700ms", "", "Cookie", c).want(w, 200, "app2", bound+700*time.Millisecond)
		})
		time.Sleep(100 * time.Millisecond)
		w.apps[0].ln.cutNewest()
		wg.Wait()
		if n := w.apps[0].commits.Load() - before; n != 1 {
			w.Errorf("%d requests took effect on app1, want only the report", n)
		}
	})
}

func TestEjectedServerGetsANewHolder(t *testing.T) {
	run(t, 1, func(_ *gateway.Config, apps []*app) { apps[0].handler = echo }, func(w *world) {
		holder := func() string {
			h, _, _ := strings.Cut(field(w.get("/").body, "Belay-Attempt"), ";")
			return h
		}
		old := holder()
		if old == "" || holder() != old {
			w.Fatalf("holder %q changed without reason", old)
		}
		w.apps[0].freeze()
		w.get("/").want(w, 504, "unknown", bound)
		w.apps[0].thaw()
		time.Sleep(5 * time.Second)
		if now := holder(); now == "" || now == old {
			w.Errorf("holder %q: what the frozen server still has could be renewed", now)
		}
	})
}

func TestSilentServer(t *testing.T) {
	for name, tc := range map[string]struct {
		method  string
		kv      []string
		library bool
		status  int
		body    string
	}{
		"moves_at_the_fence":                 {"GET", nil, true, 200, "app2"},
		"keyed_moves_at_the_fence":           {"POST", []string{"Idempotency-Key", "k"}, true, 200, "app2"},
		"keyless_is_unknown":                 {"POST", nil, true, 504, "outcome is unknown"},
		"without_the_library_the_same_waits": {"GET", nil, false, 200, "app2"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, 2, func(_ *gateway.Config, apps []*app) {
				for _, a := range apps {
					a.library = tc.library
				}
			}, func(w *world) {
				c := w.stick("app1")
				w.apps[0].freeze()
				a := w.do(tc.method, "/x", "", append(tc.kv, "Cookie", c)...)
				a.want(w, tc.status, tc.body, bound)
				if w.state("app1") != "down" {
					w.Error("a silent server is still", w.state("app1"))
				}
				if tc.status == 200 && w.lastLog()["retries"].([]any)[0] != "silent" {
					w.Error(w.lastLog())
				}
				// Nobody else waits.
				w.get("/y", "Cookie", c).want(w, 200, "app2", 0)
			})
		})
	}
}

func TestAllRequestsOfASilentServerMoveTogether(t *testing.T) {
	run(t, 2, nil, func(w *world) {
		c := w.stick("app1")
		w.apps[0].freeze()
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 50 * time.Millisecond)
				// Each waits for its own fence only, though they were sent at
				// different times and the server was asked once.
				w.get("/x", "Cookie", c).want(w, 200, "app2", bound)
			})
		}
		wg.Wait()
	})
}

func TestThawedServerHarmsNobody(t *testing.T) {
	run(t, 2, nil, func(w *world) {
		c := w.stick("app1")
		before := w.apps[0].commits.Load()
		done := make(chan answer)
		go func() { done <- w.do("PUT", "/x?work=100ms", "", "Cookie", c) }() // begun, then frozen in it
		go func() {
			time.Sleep(60 * time.Millisecond)
			done <- w.do("PUT", "/y", "", "Cookie", c) // read only when thawed
		}()
		time.Sleep(50 * time.Millisecond)
		w.apps[0].freeze()
		(<-done).want(w, 200, "app2", bound)
		(<-done).want(w, 200, "app2", bound+100*time.Millisecond)
		time.Sleep(3 * time.Second)
		w.apps[0].thaw()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if n := w.apps[0].commits.Load() - before; n != 0 {
			w.Errorf("%d old requests took effect on the thawed server", n)
		}
		if w.state("app1") != "up" {
			w.Error("thawed, but", w.state("app1"))
		}
	})
}

func TestThawedInTimeAnswersItself(t *testing.T) {
	run(t, 2, nil, func(w *world) {
		c := w.stick("app1")
		w.apps[0].freeze()
		time.AfterFunc(400*time.Millisecond, w.apps[0].thaw)
		w.do("POST", "/x", "", "Cookie", c).want(w, 200, "app1", 400*time.Millisecond)
	})
}

func TestSlowButAliveRunsOnce(t *testing.T) {
	for name, library := range map[string]bool{"renewed_in_time": true, "without_the_library": false} {
		t.Run(name, func(t *testing.T) {
			run(t, 2, func(_ *gateway.Config, apps []*app) {
				for _, a := range apps {
					a.library = library
				}
			}, func(w *world) {
				// The fake library refuses to commit past the deadline of 500 ms:
				// without renewals this could not be answered.
				w.do("POST", "/report?work=3s", "").want(w, 200, "app", 3*time.Second)
				if n := w.apps[0].runs.Load() + w.apps[1].runs.Load(); n != 1 {
					w.Errorf("ran %d times", n)
				}
			})
		})
	}
}

func TestFrozenInTheMiddleOfASlowRequest(t *testing.T) {
	run(t, 2, nil, func(w *world) {
		c := w.stick("app1")
		before := w.apps[0].commits.Load()
		time.AfterFunc(1000*time.Millisecond, w.apps[0].freeze)
		// Last renewed at 900 ms; asked at 1.2 s, silent at 1.4 s, fence at 1.65 s.
		w.do("PUT", "/x?work=2s", "", "Cookie", c).want(w, 200, "app2", 1650*time.Millisecond+2*time.Second)
		w.apps[0].thaw()
		time.Sleep(5 * time.Second)
		if w.apps[0].commits.Load() != before {
			w.Error("the abandoned request took effect")
		}
	})
}

func TestTimeout(t *testing.T) {
	run(t, 2, func(c *gateway.Config, _ []*app) { c.Pools[0].Timeout = time.Second }, func(w *world) {
		a := w.get("/x?work=5s")
		a.want(w, 504, "outcome is unknown", time.Second)
		if a.header.Get("Belay-Outcome") != "unknown" || w.lastLog()["outcome"] != "timeout" {
			w.Error(a.header, w.lastLog())
		}
		time.Sleep(10 * time.Second)
		if n := w.apps[0].commits.Load() + w.apps[1].commits.Load(); n != 0 {
			w.Error("the request that was given up was renewed and took effect")
		}
	})
}

func TestRefusedAttemptMovesWhateverItsMethod(t *testing.T) {
	run(t, 2, nil, func(w *world) {
		c := w.stick("app1")
		w.apps[0].freeze()
		// Thawed after the deadline and before the fence: the library refuses.
		time.AfterFunc(600*time.Millisecond, w.apps[0].thaw)
		a := w.do("POST", "/x", "body", "Cookie", c)
		a.want(w, 200, "app2", 600*time.Millisecond)
		if a.header.Get("Belay-Attempt") != "" || w.lastLog()["retries"].([]any)[0] != "attempt_refused" {
			w.Error(a.header, w.lastLog())
		}
	})
}

func TestLostMachine(t *testing.T) {
	run(t, 2, nil, func(w *world) {
		c := w.stick("app1")
		w.apps[0].ln.cut()
		w.net.mu.Lock()
		w.net.lost["app1:80"] = true
		w.net.mu.Unlock()
		w.do("POST", "/x", "", "Cookie", c).want(w, 200, "app2", bound) // connect_timeout would be 1 s
		w.get("/x", "Cookie", c).want(w, 200, "app2", 0)
	})
}

func TestStoppingServerFinishesWhatItHas(t *testing.T) {
	for name, library := range map[string]bool{"fenced_moves_when_it_cannot_be_renewed": true, "unfenced_may_finish": false} {
		t.Run(name, func(t *testing.T) {
			run(t, 2, func(_ *gateway.Config, apps []*app) {
				for _, a := range apps {
					a.library = library
				}
			}, func(w *world) {
				c := w.stick("app1")
				before := w.apps[0].commits.Load()
				time.AfterFunc(100*time.Millisecond, func() { w.apps[0].ln.Close() }) // a graceful stop closes the port first
				a := w.get("/x?work=2s", "Cookie", c)
				if !library {
					a.want(w, 200, "app1", 2*time.Second)
					return
				}
				a.want(w, 200, "app2", bound+2*time.Second)
				if w.apps[0].commits.Load() != before {
					w.Error("took effect twice")
				}
			})
		})
	}
}

func TestNoServerLeft(t *testing.T) {
	run(t, 1, nil, func(w *world) {
		w.apps[0].ln.kill()
		a := w.do("POST", "/x", "")
		a.want(w, 503, "did not take effect", 0)
		if a.header.Get("Retry-After") == "" || a.header.Get("Belay-Outcome") != "" {
			w.Error(a.header)
		}
		w.get("/x").want(w, 503, "No server is available", 0)
	})
}

func TestServerComesBack(t *testing.T) {
	run(t, 2, nil, func(w *world) {
		c := w.stick("app1")
		w.apps[0].ln.kill()
		w.get("/", "Cookie", c).want(w, 200, "app2", 0)
		w.apps[0].start(w.net)
		time.Sleep(501 * time.Millisecond) // two checks, 250 ms apart
		if w.state("app1") != "up" {
			w.Fatal(w.state("app1"))
		}
		w.get("/", "Cookie", c).want(w, 200, "app1", 0)
	})
}

func TestStaleConnection(t *testing.T) {
	run(t, 1, nil, func(w *world) {
		w.get("/a").want(w, 200, "app1", 0)
		// The server hangs up on its idle connections; the gateway looks before it writes.
		w.apps[0].ln.cut()
		w.do("POST", "/b", "body").want(w, 200, "app1", 0)
		if l := w.lastLog(); l["attempts"] != 1.0 || l["retries"] != nil {
			w.Error(l)
		}
	})
}

func TestStaleConnectionThatLookedGood(t *testing.T) {
	// The server hangs up just when the request arrives on a used connection.
	hangUp := func(a *app) http.HandlerFunc {
		var once sync.Once
		return func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/hang") {
				first := false
				once.Do(func() { first = true })
				if first {
					panic(http.ErrAbortHandler)
				}
			}
			w.Write([]byte(a.name))
		}
	}
	run(t, 1, func(_ *gateway.Config, apps []*app) { apps[0].handler = hangUp(apps[0]) }, func(w *world) {
		w.get("/a").want(w, 200, "app1", 0)
		w.get("/hang").want(w, 200, "app1", 0)
		if l := w.lastLog(); l["retries"].([]any)[0] != "stale_connection" {
			w.Error(l)
		}
	})
	run(t, 1, func(_ *gateway.Config, apps []*app) { apps[0].handler = hangUp(apps[0]) }, func(w *world) {
		w.get("/a").want(w, 200, "app1", 0)
		w.do("POST", "/hang", "").want(w, 502, "outcome is unknown", 0)
	})
}
