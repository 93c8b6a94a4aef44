// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway"
	"github.com/belay-ha/belay/server/internal/gateway/balance"
)

// simulation is a world in which one server at a time has a fault, by seed.
type simulation struct {
	*world
	rng *rand.Rand

	mu      sync.Mutex
	faulty  map[string]bool // it has a fault, or has not been up again since
	history []string
}

func (s *simulation) suspect(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faulty[name]
}

func (s *simulation) mark(name string, faulty bool, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faulty[name] = faulty
	s.history = append(s.history, what+" "+name)
}

// fault harms one server for a while, and waits until it is in use again.
func (s *simulation) fault() {
	i := s.rng.IntN(len(s.apps))
	a := s.apps[i]
	what := []string{"kill", "freeze", "partition", "slow", "flap", "restart", "reset", "drain"}[s.rng.IntN(8)]
	length := time.Duration(200+s.rng.IntN(6000)) * time.Millisecond
	s.mark(a.name, true, what)
	switch what {
	case "kill":
		a.ln.kill()
		time.Sleep(length)
		a.start(s.net)
	case "restart":
		a.ln.kill()
		a.start(s.net)
	case "freeze":
		a.freeze()
		time.Sleep(length)
		a.thaw()
	case "partition": // nothing arrives, on old and new connections
		s.net.mu.Lock()
		s.net.lost[a.name+":80"] = true
		s.net.mu.Unlock()
		a.freeze()
		time.Sleep(length)
		s.net.mu.Lock()
		delete(s.net.lost, a.name+":80")
		s.net.mu.Unlock()
		a.thaw()
	case "slow":
		a.delay.Store(int64(250 * time.Millisecond))
		time.Sleep(length)
		a.delay.Store(0)
	case "flap":
		for range 4 {
			a.ln.kill()
			time.Sleep(time.Duration(s.rng.IntN(800)) * time.Millisecond)
			a.start(s.net)
			time.Sleep(time.Duration(s.rng.IntN(800)) * time.Millisecond)
		}
	case "reset":
		a.ln.cut()
	case "drain":
		_ = s.g.Drain(a.name, length)
		time.Sleep(length + time.Second)
		_ = s.g.SetReady(a.name)
	}
	time.Sleep(time.Second)
	for st := s.state(a.name); st != "up" && st != "starting"; st = s.state(a.name) {
		time.Sleep(50 * time.Millisecond) // a synctest deadlock if it never comes back
	}
	s.mark(a.name, false, "end of "+what)
}

// user sends requests until stop is closed. What he may see is fixed.
func (s *simulation) user(id int, stop <-chan struct{}) {
	cookie, server := "", ""
	for k := 0; ; k++ {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(37*(id+3)) * time.Millisecond):
		}
		method, body := "GET", ""
		if k%3 == 0 {
			method, body = "POST", "b"
		}
		wasWell := server != "" && !s.suspect(server)
		a := s.do(method, fmt.Sprintf("/u%d/%d", id, k), body, "Cookie", cookie)
		isWell := server != "" && !s.suspect(server)
		bad := ""
		switch {
		case a.err != nil:
			bad = "no answer"
		case a.status == 200 && server != "" && a.body != server && wasWell && isWell:
			bad = "he was moved off a healthy server"
		case a.took > bound+time.Second:
			bad = "he waited too long"
		case a.status != 200 && method == "GET":
			bad = "a request that may be repeated failed"
		case a.status != 200 && a.header.Get("Belay-Outcome") != "unknown":
			bad = "he was not told what is known"
		}
		if bad != "" {
			s.mu.Lock()
			s.Errorf("user %d, %s %d, from %s to %d %.40q after %v (%v): %s\n%s", id, method, k, server, a.status, a.body, a.took, a.err, bad, strings.Join(s.history, ", "))
			s.mu.Unlock()
			return
		}
		if c := cookieOf(a); c != "" {
			cookie = c
		}
		if a.status == 200 {
			server = a.body
		}
	}
}

// With one fault at a time nobody is moved off a healthy server, nobody waits
// longer than promised, nothing that may be repeated fails, nothing runs twice,
// and every server comes back.
func TestSimulation(t *testing.T) {
	seeds := 200
	if testing.Short() {
		seeds = 12
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 7))
			run(t, 3, pool(func(p *gateway.Pool) {
				p.Balance.Algorithm = balance.Algorithm(rng.IntN(6))
				p.Balance.SlowStart = time.Duration(rng.IntN(2)) * 3 * time.Second
			}), func(w *world) {
				s := &simulation{world: w, rng: rng, faulty: map[string]bool{}}
				stop := make(chan struct{})
				var wg sync.WaitGroup
				for id := range 5 {
					wg.Go(func() { s.user(id, stop) })
				}
				for range 6 {
					s.fault()
				}
				time.Sleep(5 * time.Second)
				close(stop)
				wg.Wait()
				ran := map[string]int{}
				for _, a := range w.apps {
					a.mu.Lock()
					for _, r := range a.committed {
						ran[r]++
					}
					a.mu.Unlock()
				}
				for r, n := range ran {
					if n > 1 && strings.HasPrefix(r, "POST") {
						w.Errorf("%s took effect %d times: %v", r, n, s.history)
					}
				}
				if len(ran) < 100 {
					w.Errorf("only %d requests", len(ran))
				}
			})
		})
	}
}
