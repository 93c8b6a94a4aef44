// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
	"github.com/belay-ha/belay/session/near"
)

// tapped is one server's view of a shared store: it counts loads, can hold one of
// them up after it has read, and can harm what the watch tells.
type tapped struct {
	*memstore.Store
	loads   atomic.Int64
	updates atomic.Int64

	mu     sync.Mutex
	lose   int           // notices that are lost, heartbeats not counted
	refuse int           // updates that fail
	cut    chan error    // ends the watch
	stuck  chan struct{} // not nil: the watch stands still until it is closed
	hold   chan struct{} // not nil: loads wait for it once they have read
}

func (s *tapped) Load(ctx context.Context, id session.ID) (session.Record, error) {
	s.loads.Add(1)
	rec, err := s.Store.Load(ctx, id)
	s.mu.Lock()
	hold := s.hold
	s.mu.Unlock()
	if hold != nil {
		<-hold
	}
	return rec, err
}

func (s *tapped) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// Watch passes on what the store tells, through a queue that stands for the network.
func (s *tapped) Watch(ctx context.Context, every time.Duration, tell func(session.Notice)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	queue := make(chan session.Notice, 1000)
	ended := make(chan error, 1)
	go func() { ended <- s.Store.Watch(ctx, every, func(n session.Notice) { queue <- n }) }()
	for {
		s.mu.Lock()
		stuck := s.stuck
		s.mu.Unlock()
		if stuck != nil {
			<-stuck
		}
		select {
		case err := <-ended:
			return err
		case err := <-s.cut:
			cancel()
			<-ended
			return err
		case n := <-queue:
			s.mu.Lock()
			lost := !n.ID.IsZero() && s.lose > 0
			if lost {
				s.lose--
			}
			stuck := s.stuck
			s.mu.Unlock()
			if stuck != nil {
				<-stuck
			}
			if !lost {
				tell(n)
			}
		}
	}
}

const stale = 2 * time.Second

// server is one of several over a store.
type server struct {
	t     *testing.T
	store *tapped
	m     *session.Manager
	stop  context.CancelFunc
}

func startServer(t *testing.T, mem *memstore.Store, opts session.Options) *server {
	t.Helper()
	s := &server{t: t, store: &tapped{Store: mem, cut: make(chan error)}}
	if opts.Mode == session.Coherent {
		cache, err := near.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		opts.Cache = cache
	}
	opts.MaxStale = stale
	var err error
	if s.m, err = session.New(s.store, &opts); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	go func() { _ = s.m.Run(ctx) }()
	synctest.Wait()
	return s
}

// do sends a request and returns the cookies that its client then has.
func (s *server) do(cookies []*http.Cookie, f func(ctx context.Context, x *session.Session)) []*http.Cookie {
	s.t.Helper()
	r := httptest.NewRequest("GET", "/", nil)
	for _, k := range cookies {
		r.AddCookie(k)
	}
	w := httptest.NewRecorder()
	s.m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		x, err := s.m.Get(r.Context())
		if err != nil {
			s.t.Error(err)
		}
		f(r.Context(), x)
	})).ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		s.t.Errorf("status %d", w.Code)
	}
	if got := w.Result().Cookies(); len(got) > 0 {
		return got
	}
	return cookies
}

// reads returns what a client sees, and how often the store was asked for that.
func (s *server) reads(cookies []*http.Cookie) (visit int, loads int64) {
	s.t.Helper()
	before := s.store.loads.Load()
	s.do(cookies, func(_ context.Context, x *session.Session) { visit, _ = visits.Get(x) })
	return visit, s.store.loads.Load() - before
}

func (s *server) mustRead(cookies []*http.Cookie, visit int, loads int64) {
	s.t.Helper()
	if v, n := s.reads(cookies); v != visit || n != loads {
		s.t.Errorf("read %d with %d loads, want %d with %d", v, n, visit, loads)
	}
}

func (s *server) write(cookies []*http.Cookie, visit int) []*http.Cookie {
	return s.do(cookies, func(_ context.Context, x *session.Session) { visits.Set(x, visit) })
}

func (s *server) logout(cookies []*http.Cookie) {
	s.do(cookies, func(ctx context.Context, x *session.Session) {
		if err := x.Destroy(ctx); err != nil {
			s.t.Error(err)
		}
	})
	synctest.Wait()
}

// watching runs f in each mode that holds sessions: with a server that holds one,
// which was checked longer than MaxStale ago, and another server.
func watching(t *testing.T, f func(t *testing.T, a, b *server, cookies []*http.Cookie)) {
	for name, opts := range map[string]session.Options{
		"coherent": {Mode: session.Coherent},
		"sticky":   {Mode: session.Sticky, Route: "a"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mem, err := memstore.New(nil)
				if err != nil {
					t.Fatal(err)
				}
				a := startServer(t, mem, opts)
				defer a.stop()
				b := startServer(t, mem, session.Options{})
				defer b.stop()
				time.Sleep(time.Second)
				cookies := a.write(nil, 1)
				time.Sleep(5 * stale)
				f(t, a, b, cookies)
			})
		})
	}
}

func TestHeldSessionIsTrustedWhileTheWatcherLives(t *testing.T) {
	watching(t, func(t *testing.T, a, b *server, cookies []*http.Cookie) {
		for range 20 {
			a.mustRead(cookies, 1, 0)
			time.Sleep(stale)
		}
		time.Sleep(time.Minute)
		a.mustRead(cookies, 1, 1) // what nobody tells is found after a minute
		a.mustRead(cookies, 1, 0)
	})
}

func TestLogOutElsewhereIsSeenAtOnceWithALiveWatcher(t *testing.T) {
	watching(t, func(t *testing.T, a, b *server, cookies []*http.Cookie) {
		a.mustRead(cookies, 1, 0)
		b.logout(cookies)
		a.mustRead(cookies, 0, 1)
	})
}

func TestChangeElsewhereIsSeenAtOnceWithALiveWatcher(t *testing.T) {
	watching(t, func(t *testing.T, a, b *server, cookies []*http.Cookie) {
		b.write(cookies, 2) // the client does not tell a what he knows
		synctest.Wait()
		if v, n := a.reads(cookies); v != 2 || n == 0 {
			t.Errorf("read %d with %d loads", v, n)
		}
		time.Sleep(5 * stale)
		a.mustRead(cookies, 2, 0)
	})
}

func TestOwnWritesStayHeld(t *testing.T) {
	watching(t, func(t *testing.T, a, b *server, cookies []*http.Cookie) {
		for i := range 5 {
			cookies = a.write(cookies, 10+i)
			synctest.Wait()
			a.mustRead(cookies, 10+i, 0)
			time.Sleep(2 * stale)
			a.mustRead(cookies, 10+i, 0)
		}
	})
}

func TestGapInTheNoticesMakesWhatIsHeldUnverified(t *testing.T) {
	watching(t, func(t *testing.T, a, b *server, cookies []*http.Cookie) {
		a.store.set(func() { a.store.lose = 1 })
		b.logout(cookies)
		time.Sleep(stale / 2) // a heartbeat comes, with another number than it should have
		synctest.Wait()
		a.mustRead(cookies, 0, 1)
	})
}

func TestLostWatchMakesWhatIsHeldUnverified(t *testing.T) {
	watching(t, func(t *testing.T, a, b *server, cookies []*http.Cookie) {
		a.store.cut <- errors.New("connection lost")
		synctest.Wait()
		b.logout(cookies)
		a.mustRead(cookies, 0, 1)
		time.Sleep(stale) // it watches again
		other := a.write(nil, 5)
		time.Sleep(5 * stale)
		a.mustRead(other, 5, 0)
	})
}

func TestSilentWatchIsNotTrusted(t *testing.T) {
	watching(t, func(t *testing.T, a, b *server, cookies []*http.Cookie) {
		stuck := make(chan struct{})
		defer close(stuck)
		a.store.set(func() { a.store.stuck = stuck })
		b.logout(cookies)
		time.Sleep(stale)
		a.mustRead(cookies, 0, 1)
	})
}

// A process that was frozen has in its buffers what it was told meanwhile. Until
// it has asked the store, it trusts nothing of before.
func TestFreezeMakesWhatIsHeldUnverified(t *testing.T) {
	watching(t, func(t *testing.T, a, b *server, cookies []*http.Cookie) {
		stuck := make(chan struct{})
		a.store.set(func() { a.store.stuck = stuck })
		time.Sleep(5 * stale)
		a.store.set(func() { a.store.stuck = nil })
		close(stuck)
		time.Sleep(stale / 2)
		synctest.Wait()
		a.mustRead(cookies, 1, 1)
		a.mustRead(cookies, 1, 0)
		time.Sleep(5 * stale)
		a.mustRead(cookies, 1, 0) // and it watches as before
	})
}

// overtaken reads, and while that is on its way the session is logged out on
// another server.
func (s *server) overtaken(cookies []*http.Cookie, other *server) {
	s.t.Helper()
	hold := make(chan struct{})
	s.store.set(func() { s.store.hold = hold })
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.reads(cookies)
	}()
	synctest.Wait() // it has read
	s.store.set(func() { s.store.hold = nil })
	other.logout(cookies)
	close(hold)
	<-done
	s.mustRead(cookies, 0, 1)
}

// What was read before somebody else's write, and comes after the notice of it,
// must not be held: nothing would ever tell of that write again.
func TestReadThatIsOvertakenByANoticeIsNotHeld(t *testing.T) {
	watching(t, func(t *testing.T, a, b *server, cookies []*http.Cookie) {
		b.write(cookies, 2) // a must read anew
		synctest.Wait()
		a.overtaken(cookies, b)
	})
}

// The same on a server that does not hold the session yet.
func TestFirstReadThatIsOvertakenByANoticeIsNotHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, err := memstore.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		opts := session.Options{Mode: session.Sticky, Route: "a"}
		before := startServer(t, mem, opts)
		cookies := before.write(nil, 1)
		before.stop()
		a, b := startServer(t, mem, opts), startServer(t, mem, session.Options{})
		defer a.stop()
		defer b.stop()
		time.Sleep(time.Second)
		a.overtaken(cookies, b)
	})
}

func TestWithoutRunHeldSessionsAreCheckedAfterMaxStale(t *testing.T) {
	watching(t, func(t *testing.T, a, b *server, cookies []*http.Cookie) {
		a.stop()
		synctest.Wait()
		time.Sleep(stale)
		a.mustRead(cookies, 1, 1)
		a.mustRead(cookies, 1, 0)
		time.Sleep(stale)
		a.mustRead(cookies, 1, 1)
	})
}
