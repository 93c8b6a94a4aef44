// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memstore_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
)

func id(n byte) session.ID {
	var id session.ID
	id.Hash[0], id.Hash[19] = n, n*7
	return id
}

func open(t *testing.T, opts *memstore.Options) *memstore.Store {
	t.Helper()
	s, err := memstore.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func expiring(d time.Duration) session.Record {
	return session.Record{Rev: session.Rev{N: 1}, Expires: time.Now().Add(d)}
}

func TestFullRefusesAndKeepsTheLiving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, &memstore.Options{MaxSessions: 2})
		ctx := t.Context()
		for n := range byte(2) {
			if err := s.Create(ctx, id(n), expiring(time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
		err := s.Create(ctx, id(9), expiring(time.Hour))
		if !errors.Is(err, memstore.ErrFull) || !errors.Is(err, session.ErrUnavailable) {
			t.Fatalf("create at the bound: got %v, want ErrFull", err)
		}
		for n := range byte(2) {
			if _, err := s.Load(ctx, id(n)); err != nil {
				t.Errorf("session %d was evicted: %v", n, err)
			}
		}
		time.Sleep(time.Hour) // both expire, nobody sweeps
		if err := s.Create(ctx, id(9), expiring(time.Hour)); err != nil {
			t.Errorf("create after the others expired: %v", err)
		}
		if got := s.Stats().Sessions; got != 1 {
			t.Errorf("sessions after reclaiming: got %d, want 1", got)
		}
	})
}

func TestBytesBoundGrowthToo(t *testing.T) {
	s := open(t, &memstore.Options{MaxBytes: 4096})
	ctx := t.Context()
	rec := expiring(time.Hour)
	if err := s.Create(ctx, id(1), rec); err != nil {
		t.Fatal(err)
	}
	if err := s.Create(ctx, id(2), rec); err != nil {
		t.Fatal(err)
	}
	next := rec
	next.Rev = rec.Rev.Next()
	next.Attrs = rec.Attrs.With("a", make([]byte, 3700))
	if err := s.Update(ctx, id(1), next, rec.Rev); !errors.Is(err, memstore.ErrFull) {
		t.Fatalf("growth over the bound: got %v, want ErrFull", err)
	}
	if got, err := s.Load(ctx, id(1)); err != nil || got.Rev != rec.Rev {
		t.Errorf("a refused update changed the record: %v, %v", got.Rev, err)
	}
	next.Attrs = rec.Attrs.With("a", make([]byte, 8192))
	if err := s.Update(ctx, id(1), next, rec.Rev); !errors.Is(err, session.ErrTooLarge) {
		t.Errorf("a record that can never fit: got %v, want ErrTooLarge", err)
	}
	if err := s.Create(ctx, id(3), next); !errors.Is(err, session.ErrTooLarge) {
		t.Errorf("a record that can never fit: got %v, want ErrTooLarge", err)
	}
	if err := s.Delete(ctx, id(1), id(2)); err != nil {
		t.Fatal(err)
	}
	if got := s.Stats(); got != (memstore.Stats{}) {
		t.Errorf("after deleting all: got %+v, want nothing", got)
	}
}

func TestRunSweepsMemoryOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		for n := range byte(100) {
			if err := s.Create(ctx, id(n), expiring(time.Duration(n+1)*time.Second)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Create(ctx, id(200), session.Record{}); err != nil { // never expires
			t.Fatal(err)
		}
		time.Sleep(60*time.Second + time.Millisecond)
		synctest.Wait()
		if got := s.Stats().Sessions; got != 41 {
			t.Errorf("after one sweep: %d records, want 41", got)
		}
		if _, err := s.Load(ctx, id(59)); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("expired record: got %v", err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := s.Stats().Sessions; got != 1 {
			t.Errorf("after two sweeps: %d records, want 1", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v when its context ended, want nil", err)
		}
	})
}

func TestExpiryIsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, nil)
		ctx := t.Context()
		if err := s.Create(ctx, id(1), expiring(time.Minute)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute - time.Nanosecond)
		if _, err := s.Load(ctx, id(1)); err != nil {
			t.Errorf("a nanosecond before its expiry: %v", err)
		}
		time.Sleep(time.Nanosecond)
		if _, err := s.Load(ctx, id(1)); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("at its expiry: got %v, want ErrNotFound", err)
		}
	})
}

func TestLoadAllocatesLittle(t *testing.T) {
	s := open(t, nil)
	ctx := t.Context()
	rec := expiring(time.Hour)
	rec.Attrs = rec.Attrs.With("a", []byte("1"))
	if err := s.Create(ctx, id(1), rec); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = s.Load(ctx, id(1)) }); n > 3 {
		t.Errorf("Load allocates %v times, want at most 3", n)
	}
}

func BenchmarkLoad(b *testing.B) {
	s, err := memstore.New(nil)
	if err != nil {
		b.Fatal(err)
	}
	ctx := b.Context()
	if err := s.Create(ctx, id(1), expiring(time.Hour)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Load(ctx, id(1)); err != nil {
			b.Fatal(err)
		}
	}
}
