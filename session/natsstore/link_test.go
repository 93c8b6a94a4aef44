// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package natsstore_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/natsstore"
	"github.com/belay-ha/belay/session/natsstore/embedded"
)

// relayed is a store whose connection goes through a relay, and one that goes
// straight to the server.
func relayed(t *testing.T) (relay *servertest.Relay, harmed, clean *natsstore.Store) {
	t.Helper()
	url, _ := serve(t, t.TempDir(), nil)
	relay = servertest.StartRelay(t, strings.TrimPrefix(url, "nats://"))
	opts := natsstore.Options{Buckets: 1}
	return relay, open(t, dial(t, "nats://"+relay.Addr()), &opts), open(t, dial(t, url), &opts)
}

func awaitLoss(t *testing.T, r *servertest.Relay) {
	t.Helper()
	select {
	case <-r.Lost():
	case <-time.After(time.Minute):
		t.Fatal("nothing was lost")
	}
}

// TestWriteWithALostAnswerIsDone: the connection dies after the server has done what
// was asked. The call sees its own work, and does not wait for its deadline.
func TestWriteWithALostAnswerIsDone(t *testing.T) {
	relay, harmed, clean := relayed(t)
	harmed.SetPatience(time.Hour) // only the loss of the connection tells
	rec := record(time.Hour)
	second, third := rec, rec
	second.Rev, third.Rev = rec.Rev.Next(), rec.Rev.Next().Next()
	id := newID(1)
	for _, step := range []struct {
		name string
		call func(ctx context.Context) error
	}{
		{"create", func(ctx context.Context) error { return harmed.Create(ctx, id, rec) }},
		{"update", func(ctx context.Context) error { return harmed.Update(ctx, id, second, rec.Rev) }},
		{"touch", func(ctx context.Context) error { return harmed.Touch(ctx, id, rec.Expires.Add(time.Hour)) }},
		{"update after a touch", func(ctx context.Context) error { return harmed.Update(ctx, id, third, second.Rev) }},
		{"delete", func(ctx context.Context) error { return harmed.Delete(ctx, id) }},
	} {
		relay.Set(servertest.Fault{Mode: servertest.LoseAnswers})
		ended := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			ended <- step.call(ctx)
		}()
		awaitLoss(t, relay)
		relay.Restore() // resets the connection
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("%s: %v", step.name, err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s waits for its deadline", step.name)
		}
	}
	if _, err := clean.Load(t.Context(), id); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("at the end: %v", err)
	}
}

// TestLostAnswerIsNotMistaken: what came in between decides what a call may say
// whose answer was lost.
func TestLostAnswerIsNotMistaken(t *testing.T) {
	relay, harmed, clean := relayed(t)
	rec := record(time.Hour)
	second, third := rec, rec
	second.Rev, third.Rev = rec.Rev.Next(), rec.Rev.Next().Next()
	for i, tt := range []struct {
		name    string
		create  bool // else an update
		done    bool // before the answer is lost
		between func(id session.ID) error
		want    error
	}{
		{"update, then a touch of another", false, true, func(id session.ID) error { return clean.Touch(t.Context(), id, rec.Expires.Add(time.Hour)) }, nil},
		{"update, then an update upon it", false, true, func(id session.ID) error { return clean.Update(t.Context(), id, third, second.Rev) }, session.ErrUnavailable},
		{"update, then a log-out", false, true, func(id session.ID) error { return clean.Delete(t.Context(), id) }, session.ErrNotFound},
		{"update that never arrived, then the same of another", false, false, func(id session.ID) error { return clean.Update(t.Context(), id, second, rec.Rev) }, session.ErrConflict},
		{"create, then a log-out", true, true, func(id session.ID) error { return clean.Delete(t.Context(), id) }, session.ErrUnavailable},
		{"create that never arrived, then the same of another", true, false, func(id session.ID) error { return clean.Create(t.Context(), id, rec) }, session.ErrExists},
	} {
		id := newID(byte(10 + i))
		if !tt.create {
			if err := harmed.Create(t.Context(), id, rec); err != nil {
				t.Fatal(err)
			}
		}
		mode := servertest.LoseRequests
		if tt.done {
			mode = servertest.LoseAnswers
		}
		relay.Set(servertest.Fault{Mode: mode})
		ended := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			if tt.create {
				ended <- harmed.Create(ctx, id, rec)
				return
			}
			ended <- harmed.Update(ctx, id, second, rec.Rev)
		}()
		awaitLoss(t, relay)
		if err := tt.between(id); err != nil {
			t.Fatal(err)
		}
		relay.Restore()
		if err := <-ended; !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
}

// TestConnectionThatTheClientGaveUp: nats.go closes a connection for good when the
// server says what it does not know, or refuses its password twice.
func TestConnectionThatTheClientGaveUp(t *testing.T) {
	dir := t.TempDir()
	url, stop := serve(t, dir, &embedded.Options{Password: "right"})
	port := portOf(t, url)
	nc := dial(t, url, nats.UserInfo(embedded.User, "right"))
	s := open(t, nc, &natsstore.Options{Buckets: 2})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	long, cancel3 := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel3()
	watch := make(chan error, 1)
	beginWatch := func() {
		t.Helper()
		heard := make(chan struct{}, 1)
		go func() {
			watch <- s.Watch(ctx, 50*time.Millisecond, func(session.Notice) {
				select {
				case heard <- struct{}{}:
				default:
				}
			})
		}()
		select {
		case <-heard:
		case err := <-watch:
			t.Fatalf("watch: %v", err)
		case <-long.Done():
			t.Fatal("a watch says nothing")
		}
	}
	beginWatch()
	rec := record(time.Hour)
	if err := s.Create(t.Context(), newID(1), rec); err != nil {
		t.Fatal(err)
	}
	stop()
	_, stop = serve(t, dir, &embedded.Options{Port: port, Password: "wrong"})
	closed := nc.StatusChanged(nats.CLOSED)
	for !nc.IsClosed() {
		select {
		case <-closed:
		case <-time.After(time.Minute):
			t.Fatal("the client did not give up: then this test tests nothing")
		}
	}
	select {
	case err := <-watch:
		if !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("a watch on a connection that is closed: %v, want ErrUnavailable", err)
		}
	case <-long.Done():
		t.Fatal("a watch goes on without a connection")
	}
	short, cancel2 := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel2()
	if _, err := s.Load(short, newID(1)); !errors.Is(err, session.ErrUnavailable) || strings.Contains(err.Error(), "right") {
		t.Errorf("with a wrong password: %v", err)
	}
	stop()
	serve(t, dir, &embedded.Options{Port: port, Password: "right"})
	if _, err := s.Load(long, newID(1)); err != nil {
		t.Errorf("with the right password again: %v", err)
	}
	beginWatch()
	cancel()
	if err := <-watch; err != nil {
		t.Errorf("the end of a watch: %v", err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	if _, err := s.Load(t.Context(), newID(1)); !errors.Is(err, session.ErrUnavailable) || !strings.Contains(err.Error(), "closed") {
		t.Errorf("a closed store: %v", err)
	}
}

// TestConnectionThatItsOwnerClosed: it has had an error that the client only
// remembers, and is no less his.
func TestConnectionThatItsOwnerClosed(t *testing.T) {
	url, stop := serve(t, t.TempDir(), nil)
	defer stop()
	slow := make(chan struct{}, 1)
	nc := dial(t, url, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		if errors.Is(err, nats.ErrSlowConsumer) {
			select {
			case slow <- struct{}{}:
			default:
			}
		}
	}))
	s := open(t, nc, nil)
	id, rec := newID(1), record(time.Hour)
	if err := s.Create(t.Context(), id, rec); err != nil {
		t.Fatal(err)
	}
	sub, err := nc.SubscribeSync("much")
	if err == nil {
		err = sub.SetPendingLimits(1, -1)
	}
	for range 10 {
		err = errors.Join(err, nc.Publish("much", nil))
	}
	if err != nil {
		t.Fatal(err)
	}
	<-slow
	nc.Close()
	if _, err := s.Load(t.Context(), id); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("after its owner has closed the connection: %v", err)
	}
}

// TestCallsEndThoughASilentServerTakesNoMore: once the sockets are full, sending waits
// for the server too, and holds up whoever else sends.
func TestCallsEndThoughASilentServerTakesNoMore(t *testing.T) {
	relay, harmed, _ := relayed(t)
	rec := record(time.Hour)
	rec.Attrs = session.Attrs{{Name: "a", Value: make([]byte, 256<<10)}}
	relay.Set(servertest.Fault{Mode: servertest.Silent})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	ended := make(chan error)
	const calls = 100 // 25 MiB: what is not in a socket
	for i := range calls {
		go func() { ended <- harmed.Create(ctx, newID(byte(i)), rec) }()
	}
	hang := time.After(20 * time.Second)
	for i := range calls {
		select {
		case err := <-ended:
			if !errors.Is(err, session.ErrUnavailable) {
				t.Error(err)
			}
		case <-hang:
			t.Fatalf("%d of %d calls wait for the server", calls-i, calls)
		}
	}
}
