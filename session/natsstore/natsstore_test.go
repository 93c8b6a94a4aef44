// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package natsstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/natsstore"
	"github.com/belay-ha/belay/session/natsstore/embedded"
	"github.com/belay-ha/belay/session/sessiontest"
	"github.com/belay-ha/belay/session/storetest"
)

// serve runs an embedded server until the test ends.
func serve(t *testing.T, dir string, opts *embedded.Options) (url string, stop func()) {
	t.Helper()
	srv, err := embedded.New(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	select {
	case <-srv.Ready():
	case err := <-done:
		cancel()
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
	}
	t.Cleanup(stop)
	return srv.ClientURL(), stop
}

func portOf(t *testing.T, url string) (port int) {
	t.Helper()
	if _, err := fmt.Sscanf(url, "nats://127.0.0.1:%d", &port); err != nil {
		t.Fatal(err)
	}
	return port
}

func dial(t *testing.T, url string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := natsstore.Dial(t.Context(), url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func open(t *testing.T, nc *nats.Conn, opts *natsstore.Options) *natsstore.Store {
	t.Helper()
	s, err := natsstore.Open(t.Context(), nc, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newID(n byte) session.ID { return session.ID{Generation: 1, Hash: [20]byte{n, n, 18: n, 19: n}} }

func record(life time.Duration) session.Record {
	now := time.Now().Truncate(time.Millisecond)
	return session.Record{Rev: session.Rev{Term: 1, N: 1}, Created: now, Seen: now, Expires: now.Add(life)}
}

func TestConformance(t *testing.T) {
	url, _ := serve(t, t.TempDir(), nil)
	storetest.Run(t, func(t *testing.T) session.Store { return open(t, dial(t, url), nil) })
}

func TestSessions(t *testing.T) {
	url, _ := serve(t, t.TempDir(), nil)
	nc := dial(t, url)
	var n atomic.Int64
	sessiontest.Run(t, func(t *testing.T) session.Store {
		return open(t, nc, &natsstore.Options{Name: fmt.Sprintf("test%d", n.Add(1)), Buckets: 1})
	})
}

// raw returns the last message of a session as the engine has it.
func raw(t *testing.T, nc *nats.Conn, name string, id session.ID) *jetstream.RawStreamMsg {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "KV_"+name+"-0")
	if err != nil {
		t.Fatal(err)
	}
	msg, err := stream.GetLastMsgForSubject(t.Context(), "$KV."+name+"-0."+id.Key())
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

func TestEveryWriteCarriesItsTimeToLive(t *testing.T) {
	url, _ := serve(t, t.TempDir(), nil)
	nc := dial(t, url)
	s := open(t, nc, &natsstore.Options{Name: "ttl", Buckets: 1})
	ctx, id := t.Context(), newID(1)
	ttl := func(step string, atMost time.Duration) {
		t.Helper()
		got, err := time.ParseDuration(raw(t, nc, "ttl", id).Header.Get("Nats-TTL"))
		if err != nil || got > atMost || got < atMost/2 {
			t.Errorf("%s: engine's time to live is %v (%v), want about %v", step, got, err, atMost)
		}
	}
	rec := record(10 * time.Minute)
	if err := s.Create(ctx, id, rec); err != nil {
		t.Fatal(err)
	}
	ttl("create", 10*time.Minute)
	second := rec
	second.Rev, second.Expires = rec.Rev.Next(), rec.Expires.Add(10*time.Minute)
	if err := s.Update(ctx, id, second, rec.Rev); err != nil {
		t.Fatal(err)
	}
	ttl("update", 20*time.Minute)
	if err := s.Touch(ctx, id, rec.Expires.Add(30*time.Minute)); err != nil {
		t.Fatal(err)
	}
	ttl("touch", 40*time.Minute)
	if err := s.Delete(ctx, id); err != nil {
		t.Fatal(err)
	}
	ttl("marker of a deletion", time.Minute)
}

func TestNumberOfBucketsIsTheServers(t *testing.T) {
	url, _ := serve(t, t.TempDir(), nil)
	nc := dial(t, url)
	first := open(t, nc, &natsstore.Options{Name: "n", Buckets: 3})
	ctx := t.Context()
	for n := range byte(30) {
		if err := first.Create(ctx, newID(n), record(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	second := open(t, nc, &natsstore.Options{Name: "n"})
	for n := range byte(30) {
		if _, err := second.Load(ctx, newID(n)); err != nil {
			t.Fatalf("a second node does not find session %d: %v", n, err)
		}
	}
	_, err := natsstore.Open(ctx, nc, &natsstore.Options{Name: "n", Buckets: 8})
	if err == nil || !strings.Contains(err.Error(), "3 buckets, not 8") || errors.Is(err, session.ErrUnavailable) {
		t.Errorf("another number of buckets: got %v", err)
	}
}

// Whoever finds a stream that would lose sessions, or that another program made, says
// which, and what is wrong with it.
func TestForeignStreamIsRefused(t *testing.T) {
	url, _ := serve(t, t.TempDir(), nil)
	nc := dial(t, url)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(c *jetstream.StreamConfig)
		want   string
	}{
		"history":  {func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 5 }, "history 1"},
		"no-ttl":   {func(c *jetstream.StreamConfig) { c.AllowMsgTTL, c.SubjectDeleteMarkerTTL = false, 0 }, "message TTL"},
		"rollup":   {func(c *jetstream.StreamConfig) { c.AllowRollup, c.SubjectDeleteMarkerTTL = false, 0 }, "rollup"},
		"discards": {func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }, "may drop live sessions"},
		"ages":     {func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }, "may drop live sessions"},
		"not-ours": {func(c *jetstream.StreamConfig) { c.Metadata = nil }, "not made by natsstore"},
		"odd":      {func(c *jetstream.StreamConfig) { c.Metadata["belay.buckets"] = "65" }, "not made by natsstore"},
		"none":     {func(c *jetstream.StreamConfig) { c.Metadata["belay.buckets"] = "0" }, "not made by natsstore"},
		"good":     {func(*jetstream.StreamConfig) {}, ""},
	} {
		cfg := jetstream.StreamConfig{
			Name: "KV_" + name + "-0", Subjects: []string{"$KV." + name + "-0.>"}, MaxMsgsPerSubject: 1, Discard: jetstream.DiscardNew,
			AllowMsgTTL: true, AllowRollup: true, SubjectDeleteMarkerTTL: time.Minute, Metadata: map[string]string{"belay.buckets": "1"},
		}
		tt.change(&cfg)
		if _, err := js.CreateStream(t.Context(), cfg); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, err := natsstore.Open(t.Context(), nc, &natsstore.Options{Name: name})
		if tt.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), cfg.Name) || errors.Is(err, session.ErrUnavailable) {
			t.Errorf("%s: got %v, want %q and the stream", name, err, tt.want)
		}
	}
}

// A server that is not set up, or not there, is named together with what to do.
func TestOpenSaysWhatIsWrongWithTheServer(t *testing.T) {
	short := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	plain, err := server.NewServer(&server.Options{ServerName: "plain", Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	plain.Start()
	t.Cleanup(func() {
		plain.Shutdown()
		plain.WaitForShutdown()
	})
	if !plain.ReadyForConnections(30 * time.Second) {
		t.Fatal("the server is not ready")
	}
	_, err = natsstore.Open(short(), dial(t, plain.ClientURL()), nil)
	if !errors.Is(err, session.ErrUnavailable) || !strings.Contains(err.Error(), "plain") || !strings.Contains(err.Error(), "JetStream on") {
		t.Errorf("a server without JetStream: %v", err)
	}
	addr := freeAddrs(t, 1)[0]
	nc := dial(t, "nats://me:secret@"+addr, nats.RetryOnFailedConnect(true))
	_, err = natsstore.Open(short(), nc, nil)
	if !errors.Is(err, session.ErrUnavailable) || !strings.Contains(err.Error(), "no server answers at nats://"+addr) || strings.Contains(err.Error(), "secret") {
		t.Errorf("a server that is not there: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := natsstore.Dial(ended, plain.ClientURL()); !errors.Is(err, context.Canceled) {
		t.Errorf("dial with an ended context: %v", err)
	}
}

// What may be sent is the server's max_payload.
func TestLimit(t *testing.T) {
	url, _ := serve(t, t.TempDir(), &embedded.Options{MaxRecord: 256 << 10})
	s := open(t, dial(t, url), nil)
	storetest.Config{}.RunLimit(t, 256<<10, func(t *testing.T) session.Store { return s })
}

func TestFullDiskQuotaIsSaidAndEvictsNobody(t *testing.T) {
	url, _ := serve(t, t.TempDir(), nil)
	s := open(t, dial(t, url), &natsstore.Options{Buckets: 1, MaxBytes: 64 << 10})
	rec := record(time.Hour)
	rec.Attrs = rec.Attrs.With("a", make([]byte, 10<<10))
	var err error
	n := byte(0)
	for ; n < 20 && err == nil; n++ {
		err = s.Create(t.Context(), newID(n), rec)
	}
	if !errors.Is(err, session.ErrUnavailable) || !strings.Contains(err.Error(), "maximum bytes") {
		t.Fatalf("after %d sessions: got %v", n, err)
	}
	for i := range n - 1 {
		if _, err := s.Load(t.Context(), newID(i)); err != nil {
			t.Errorf("session %d was evicted: %v", i, err)
		}
	}
}

func TestDamagedAndNewerRecordsAreTold(t *testing.T) {
	url, _ := serve(t, t.TempDir(), nil)
	nc := dial(t, url)
	s := open(t, nc, &natsstore.Options{Name: "bad", Buckets: 1})
	ctx := t.Context()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(ctx, "$KV.bad-0."+newID(1).Key(), []byte("no record")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(ctx, newID(1)); !errors.Is(err, session.ErrCorrupt) {
		t.Errorf("load of garbage: got %v, want ErrCorrupt", err)
	}
	if err := s.Create(ctx, newID(1), record(time.Hour)); !errors.Is(err, session.ErrExists) {
		t.Errorf("create over garbage: got %v, want ErrExists", err)
	}
	if err := s.Delete(ctx, newID(1)); err != nil {
		t.Errorf("delete of garbage: %v", err)
	}
}

func TestServerAwayIsUnavailableAndComesBack(t *testing.T) {
	dir := t.TempDir()
	url, stop := serve(t, dir, nil)
	s := open(t, dial(t, url), nil)
	id, rec := newID(1), record(time.Hour)
	if err := s.Create(t.Context(), id, rec); err != nil {
		t.Fatal(err)
	}
	stop()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := s.Load(ctx, id); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("load: got %v, want ErrUnavailable", err)
	}
	if err := s.Update(ctx, id, rec, rec.Rev); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("update: got %v, want ErrUnavailable", err)
	}
	serve(t, dir, &embedded.Options{Port: portOf(t, url)})
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := s.Load(ctx, id); err != nil { // waits for the reconnection
		t.Errorf("load after the restart: %v", err)
	}
	if err := s.Ping(ctx); err != nil {
		t.Errorf("ping after the restart: %v", err)
	}
}

func TestDialHidesThePassword(t *testing.T) {
	_, err := natsstore.Dial(t.Context(), "nats://me:secret@127.0.0.1:1")
	if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("got %v", err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]natsstore.Options{
		"name_with_a_dot": {Name: "a.b"}, "too_many_buckets": {Buckets: 65}, "six_replicas": {Replicas: 6}, "negative_timeout": {Timeout: -1},
	} {
		if _, err := natsstore.Open(t.Context(), nil, &o); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
