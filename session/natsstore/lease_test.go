// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package natsstore_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/natsstore"
	"github.com/belay-ha/belay/session/natsstore/embedded"
)

func lock(t *testing.T, s *natsstore.Store, id session.ID, ttl time.Duration) session.Lease {
	t.Helper()
	l, err := s.Lock(t.Context(), id, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func isLocked(t *testing.T, s *natsstore.Store, id session.ID) {
	t.Helper()
	if l, err := s.Lock(t.Context(), id, time.Minute); !errors.Is(err, session.ErrLocked) {
		t.Errorf("lock: %d, %v; want ErrLocked", l, err)
	}
}

func TestALeaseKeepsItsNumberAndLeavesNothing(t *testing.T) {
	url, _ := serve(t, t.TempDir(), nil)
	nc := dial(t, url)
	a := open(t, nc, &natsstore.Options{Name: "lease", Buckets: 1})
	b := open(t, dial(t, url), &natsstore.Options{Name: "lease"})
	stream, ctx, id := owners(t, nc, "lease"), t.Context(), newID(1)
	ttl := func(step string, want time.Duration) {
		t.Helper()
		msg, err := stream.GetLastMsgForSubject(ctx, "$KV.lease-owners0.l."+id.Key())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := time.ParseDuration(msg.Header.Get("Nats-TTL")); err != nil || got != want {
			t.Errorf("%s: engine's time to live is %v (%v), want %v", step, got, err, want)
		}
	}
	l := lock(t, a, id, 90*time.Second+time.Millisecond)
	ttl("lock", 91*time.Second)
	for range 3 {
		if err := a.Extend(ctx, id, l, time.Hour); err != nil {
			t.Fatal(err)
		}
		ttl("extend", time.Hour)
		isLocked(t, b, id)
	}
	if err := b.Unlock(ctx, id, l); err != nil { // the number says whose it is, not the node
		t.Fatal(err)
	}
	if info, err := stream.Info(ctx); err != nil || info.State.Msgs != 0 {
		t.Errorf("%d messages left, %v", info.State.Msgs, err)
	}
	if err := a.Extend(ctx, id, l, time.Hour); !errors.Is(err, session.ErrLeaseLost) {
		t.Errorf("extend of what was given back: %v", err)
	}
	if next := lock(t, b, id, time.Hour); next <= l {
		t.Errorf("lease %d after %d", next, l)
	}
}

// The engine forgets after a second at the earliest.
func TestALeaseRunsOutBeforeTheEngineForgets(t *testing.T) {
	url, _ := serve(t, t.TempDir(), nil)
	s := open(t, dial(t, url), nil)
	l := lock(t, s, newID(1), time.Nanosecond)
	if err := s.Extend(t.Context(), newID(1), l, time.Hour); !errors.Is(err, session.ErrLeaseLost) {
		t.Errorf("extend of what has run out: %v", err)
	}
	next := lock(t, s, newID(1), time.Hour)
	if next <= l {
		t.Errorf("lease %d after %d", next, l)
	}
	if err := errors.Join(s.Unlock(t.Context(), newID(1), l), s.Extend(t.Context(), newID(1), next, time.Hour)); err != nil {
		t.Errorf("who lost it took it from who has it: %v", err)
	}
}

func TestALeaseIsExtendedInManyPlacesAtOnce(t *testing.T) {
	url, _ := serve(t, t.TempDir(), nil)
	s := open(t, dial(t, url), nil)
	l := lock(t, s, newID(1), time.Hour)
	errs := make(chan error)
	for range 8 {
		go func() { errs <- s.Extend(t.Context(), newID(1), l, time.Hour) }()
	}
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	for range 30 { // extended while it is given back: free in the end
		go func() { errs <- s.Extend(t.Context(), newID(1), l, time.Hour) }()
		if err := s.Unlock(t.Context(), newID(1), l); err != nil {
			t.Error(err)
		}
		if err := <-errs; err != nil && !errors.Is(err, session.ErrLeaseLost) {
			t.Error(err)
		}
		l = lock(t, s, newID(1), time.Hour)
	}
}

// lossy loses the next answer that says at which sequence something was stored,
// together with its connection.
type lossy struct{ armed atomic.Bool }

func (l *lossy) Dial(network, address string) (net.Conn, error) {
	conn, err := net.Dial(network, address)
	return &lossyConn{conn, l}, err
}

type lossyConn struct {
	net.Conn
	l *lossy
}

func (c *lossyConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if bytes.Contains(p[:n], []byte(`"seq":`)) && c.l.armed.CompareAndSwap(true, false) {
		return 0, errors.Join(net.ErrClosed, c.Close())
	}
	return n, err
}

func TestLeaseWhoseAnswerWasLostIsTakenOnce(t *testing.T) {
	url, _ := serve(t, t.TempDir(), nil)
	var network lossy
	s := open(t, dial(t, url, nats.SetCustomDialer(&network)), nil)
	direct := open(t, dial(t, url), nil)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	id := newID(1)
	network.armed.Store(true)
	l, err := s.Lock(ctx, id, time.Hour)
	if err != nil || network.armed.Load() {
		t.Fatalf("lock whose answer was lost: %v; lost: %v", err, !network.armed.Load())
	}
	isLocked(t, direct, id)
	network.armed.Store(true)
	if err := s.Extend(ctx, id, l, time.Hour); err != nil || network.armed.Load() {
		t.Errorf("extend whose answer was lost: %v; lost: %v", err, !network.armed.Load())
	}
	if err := direct.Extend(ctx, id, l, time.Hour); err != nil {
		t.Errorf("the lease has another number than its holder was told: %v", err)
	}
}

func TestALeaseOutlivesItsServer(t *testing.T) {
	dir, dead := t.TempDir(), t.TempDir()
	url, stop := serve(t, dir, nil)
	s := open(t, dial(t, url), &natsstore.Options{Buckets: 1})
	ctx := t.Context()
	held := lock(t, s, newID(1), time.Hour)
	last := lock(t, s, newID(2), time.Hour)
	if err := s.Unlock(ctx, newID(2), last); err != nil { // the newest message is gone
		t.Fatal(err)
	}
	// What is on disk now is what a killed server would find there.
	if err := os.CopyFS(dead, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	stop()
	for name, dir := range map[string]string{"stopped": dir, "killed": dead} {
		url, _ := serve(t, dir, nil)
		s := open(t, dial(t, url), nil)
		isLocked(t, s, newID(1))
		if err := s.Extend(ctx, newID(1), held, time.Hour); err != nil {
			t.Errorf("%s: extend: %v", name, err)
		}
		if l := lock(t, s, newID(2), time.Hour); l <= last {
			t.Errorf("%s: lease %d after the restart, %d before", name, l, last)
		}
	}
}

func TestALeaseIsThereWhileSessionsHaveNoRoom(t *testing.T) {
	url, _ := serve(t, t.TempDir(), nil)
	s := open(t, dial(t, url), &natsstore.Options{Buckets: 1, MaxBytes: 4 << 10})
	ctx := t.Context()
	var err error
	for n := byte(0); n < 200 && err == nil; n++ {
		err = s.Create(ctx, newID(n), record(time.Hour))
	}
	if !errors.Is(err, session.ErrUnavailable) {
		t.Fatalf("the bucket does not get full: %v", err)
	}
	l := lock(t, s, newID(0), time.Hour)
	if err := errors.Join(s.Extend(ctx, newID(0), l, time.Hour), s.Unlock(ctx, newID(0), l)); err != nil {
		t.Error(err)
	}
}

func TestDamagedLeaseIsTold(t *testing.T) {
	url, _ := serve(t, t.TempDir(), nil)
	nc := dial(t, url)
	s := open(t, nc, &natsstore.Options{Name: "bad", Buckets: 1})
	ctx, id := t.Context(), newID(1)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "1 2", "1 x nonce", "x 1 nonce"} {
		if _, err := js.Publish(ctx, "$KV.bad-owners0.l."+id.Key(), []byte(text)); err != nil {
			t.Fatal(err)
		}
		_, err1 := s.Lock(ctx, id, time.Hour)
		for op, err := range map[string]error{"lock": err1, "extend": s.Extend(ctx, id, 1, time.Hour), "unlock": s.Unlock(ctx, id, 1)} {
			if !errors.Is(err, session.ErrCorrupt) {
				t.Errorf("%s of %q: got %v, want ErrCorrupt", op, text, err)
			}
		}
	}
}

func TestLeaseOfAServerThatIsAway(t *testing.T) {
	dir := t.TempDir()
	url, stop := serve(t, dir, nil)
	s := open(t, dial(t, url), nil)
	l := lock(t, s, newID(1), time.Hour)
	stop()
	for name, call := range map[string]func(context.Context) error{
		"lock":   func(ctx context.Context) error { _, err := s.Lock(ctx, newID(2), time.Hour); return err },
		"extend": func(ctx context.Context) error { return s.Extend(ctx, newID(1), l, time.Hour) },
		"unlock": func(ctx context.Context) error { return s.Unlock(ctx, newID(1), l) },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if err := call(ctx); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("%s: got %v, want ErrUnavailable", name, err)
		}
		cancel()
	}
	serve(t, dir, &embedded.Options{Port: portOf(t, url)})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.Extend(ctx, newID(1), l, time.Hour); err != nil { // waits for the reconnection
		t.Errorf("after the restart: %v", err)
	}
}
