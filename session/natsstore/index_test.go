// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package natsstore_test

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/natsstore"
	"github.com/belay-ha/belay/session/natsstore/embedded"
)

func numbered(n int) (id session.ID) {
	id.Generation = 1
	binary.BigEndian.PutUint32(id.Hash[:], uint32(n))
	return id
}

func index(t *testing.T, s *natsstore.Store, owner string, id session.ID, until time.Time) session.Entry {
	t.Helper()
	e, err := s.Index(t.Context(), owner, id, until)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func epoch(t *testing.T, s *natsstore.Store, owner string) uint64 {
	t.Helper()
	n, err := s.Epoch(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// owners is the stream of an index with one bucket.
func owners(t *testing.T, nc *nats.Conn, name string) jetstream.Stream {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "KV_"+name+"-owners0")
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func TestWhatIsKnownOfAnOwnerEnds(t *testing.T) {
	url, _ := serve(t, t.TempDir(), nil)
	nc := dial(t, url)
	s := open(t, nc, &natsstore.Options{Name: "ends", Buckets: 1})
	stream := owners(t, nc, "ends")
	ttl := func(of, filter string, want time.Duration) {
		t.Helper()
		msg, err := stream.GetLastMsgForSubject(t.Context(), "$KV.ends-owners0."+filter)
		if err != nil {
			t.Fatalf("%s: %v", of, err)
		}
		got, err := time.ParseDuration(msg.Header.Get("Nats-TTL"))
		if want == 0 && msg.Header.Get("Nats-TTL") == "" {
			return
		}
		if err != nil || (got-want).Abs() > 10*time.Minute {
			t.Errorf("%s: engine's time to live is %v (%v), want about %v", of, got, err, want)
		}
	}
	index(t, s, "42", newID(1), time.Now().Add(5*time.Hour))
	ttl("an entry with an end", "i.*."+newID(1).Key(), 5*time.Hour)
	index(t, s, "42", newID(2), time.Time{})
	ttl("an entry without", "i.*."+newID(2).Key(), 0)
	if err := s.RaiseEpoch(t.Context(), "42"); err != nil {
		t.Fatal(err)
	}
	ttl("an epoch", "e.*", time.Hour)

	if err := s.Unindex(t.Context(), "42", newID(1), newID(2)); err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context())
	if err != nil || info.State.Msgs != 1 { // the epoch
		t.Errorf("%d messages left after all entries were removed, %v; want 1", info.State.Msgs, err)
	}
	if info.Config.SubjectDeleteMarkerTTL != 0 {
		t.Error("an entry that ends leaves a marker, which every listing comes across")
	}
}

func TestNumbersGrowOverARestart(t *testing.T) {
	dir := t.TempDir()
	url, stop := serve(t, dir, nil)
	s := open(t, dial(t, url), &natsstore.Options{Buckets: 1})
	ctx := t.Context()
	before := index(t, s, "42", newID(1), time.Time{})
	if err := errors.Join(s.RaiseEpoch(ctx, "42"), s.Unindex(ctx, "42", newID(1))); err != nil {
		t.Fatal(err)
	}
	raised := epoch(t, s, "42")
	last := index(t, s, "43", newID(2), time.Time{}) // removed: the newest message is gone
	if err := s.Unindex(ctx, "43", newID(2)); err != nil {
		t.Fatal(err)
	}
	stop()
	url, _ = serve(t, dir, nil)
	s = open(t, dial(t, url), nil)
	if got := epoch(t, s, "42"); got != raised {
		t.Errorf("epoch %d after the restart, %d before", got, raised)
	}
	if after := index(t, s, "42", newID(3), time.Time{}); after.Seq <= last.Seq || after.Seq <= before.Seq {
		t.Errorf("Seq %d after the restart, %d before", after.Seq, last.Seq)
	}
	if err := s.RaiseEpoch(ctx, "42"); err != nil {
		t.Fatal(err)
	}
	if got := epoch(t, s, "42"); got <= raised {
		t.Errorf("epoch raised to %d, it was %d before the restart", got, raised)
	}
}

func TestAnOwnerWithManySessions(t *testing.T) {
	url, _ := serve(t, t.TempDir(), nil)
	s := open(t, dial(t, url), nil)
	want := make([]session.ID, 500)
	for i := range want {
		want[i] = numbered(i)
		index(t, s, "robot", want[i], time.Now().Add(time.Hour))
	}
	list, err := s.Entries(t.Context(), "robot")
	if err != nil || !slices.EqualFunc(list, want, func(e session.Entry, id session.ID) bool { return e.ID == id }) {
		t.Errorf("listed %d entries, %v; want %d in order", len(list), err, len(want))
	}
	if err := s.Unindex(t.Context(), "robot", want[1:]...); err != nil {
		t.Fatal(err)
	}
	if list, err = s.Entries(t.Context(), "robot"); err != nil || len(list) != 1 || list[0].ID != want[0] {
		t.Errorf("after 499 were removed: %v, %v", list, err)
	}
}

func TestARevocationHasRoomWhenSessionsHaveNone(t *testing.T) {
	url, _ := serve(t, t.TempDir(), nil)
	s := open(t, dial(t, url), &natsstore.Options{Buckets: 1, MaxBytes: 8 << 10})
	ctx, rec := t.Context(), record(time.Hour)
	var err error
	for n := range byte(200) {
		index(t, s, "42", newID(n), rec.Expires) // more than MaxBytes in all
		if err == nil {
			err = s.Create(ctx, newID(n), rec)
		}
	}
	if !errors.Is(err, session.ErrUnavailable) {
		t.Fatalf("the bucket does not get full: %v", err)
	}
	if err := errors.Join(s.RaiseEpoch(ctx, "42"), s.Delete(ctx, newID(0)), s.Unindex(ctx, "42", newID(0))); err != nil {
		t.Errorf("revocation: %v", err)
	}
}

func TestIndexOfAServerThatIsAway(t *testing.T) {
	dir := t.TempDir()
	url, stop := serve(t, dir, nil)
	s := open(t, dial(t, url), nil)
	index(t, s, "42", newID(1), time.Time{})
	stop()
	for name, call := range map[string]func(context.Context) error{
		"index":       func(ctx context.Context) error { _, err := s.Index(ctx, "42", newID(2), time.Time{}); return err },
		"unindex":     func(ctx context.Context) error { return s.Unindex(ctx, "42", newID(1), newID(2)) },
		"entries":     func(ctx context.Context) error { _, err := s.Entries(ctx, "42"); return err },
		"epoch":       func(ctx context.Context) error { _, err := s.Epoch(ctx, "42"); return err },
		"raise epoch": func(ctx context.Context) error { return s.RaiseEpoch(ctx, "42") },
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
	if list, err := s.Entries(ctx, "42"); err != nil || len(list) != 1 { // waits for the reconnection
		t.Errorf("after the restart: %v, %v", list, err)
	}
}
