// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-ha/belay/internal/wire"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
)

// An attempt that its gateway has given up is told, and whether it had begun.
func TestRefusedAttemptsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []bool
		mem, err := memstore.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		m, err := session.New(mem, &session.Options{Hooks: session.Hooks{
			Refused: func(_ context.Context, started bool) { told = append(told, started) },
		}})
		if err != nil {
			t.Fatal(err)
		}
		ran := 0
		h := m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			ran++
			s, _ := m.Get(r.Context())
			visits.Set(s, 1)
			time.Sleep(time.Second)
		}))
		for _, left := range []time.Duration{2 * time.Second, -time.Second, time.Second / 2} {
			r := httptest.NewRequest("POST", "/", nil)
			r.Header.Set(wire.HeaderAttempt, wire.Attempt{Holder: "gw", ID: 1, Deadline: time.Now().Add(left)}.String())
			h.ServeHTTP(httptest.NewRecorder(), r)
		}
		if !slices.Equal(told, []bool{false, true}) || ran != 2 {
			t.Errorf("told %v of one that was in time, one that came too late and one that took too long; %d ran", told, ran)
		}
	})
}

// failing is a store whose updates fail, and whose loads do if it is away.
type failing struct {
	session.Store
	away bool
}

var errCable = errors.New("cable cut")

func (s *failing) Load(ctx context.Context, id session.ID) (session.Record, error) {
	if s.away {
		return session.Record{}, errCable
	}
	return s.Store.Load(ctx, id)
}

func (*failing) Update(context.Context, session.ID, session.Record, session.Rev) error {
	return errCable
}

// What a store says is told if it is a failure, and not if it is an answer.
func TestStoreErrorsAreTold(t *testing.T) {
	mem, err := memstore.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	store := &failing{Store: mem}
	var told []string
	m, err := session.New(store, &session.Options{Hooks: session.Hooks{
		StoreError: func(_ context.Context, op string, err error) {
			told = append(told, fmt.Sprint(op, " ", errors.Is(err, errCable)))
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	c := &patched{t: t, m: m}
	c.do(func(s *session.Session) { visits.Set(s, 1) })
	stranger := &patched{t: t, m: m, cookie: []*http.Cookie{{Name: "__Host-id", Value: "AAAAAAAAAAAAAAAAAAAAAAAAAAAA"}}}
	stranger.do(func(s *session.Session) { visits.Get(s) })
	if len(told) != 0 {
		t.Errorf("of answers it is told %q", told)
	}
	c.do(func(s *session.Session) { visits.Set(s, 2) })
	store.away = true
	r := httptest.NewRequest("GET", "/", nil)
	r.AddCookie(c.cookie[0])
	m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = m.Get(r.Context()) })).ServeHTTP(httptest.NewRecorder(), r)
	if want := []string{"update true", "load true"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}

// A change that was put off, and whose session was ended elsewhere, is told to be lost.
func TestLostBackupsAreTold(t *testing.T) {
	var lost []string
	o := session.Options{Backup: session.Interval, Interval: time.Minute, Hooks: session.Hooks{
		Lost: func(_ context.Context, i session.Info) { lost = append(lost, i.Owner) },
	}}
	backingUp(t, o, func(s *server, mem *memstore.Store) {
		cookies := s.write(s.login(), 1)
		elsewhere, err := session.New(mem, nil)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := elsewhere.Revoke(t.Context(), "42"); n != 1 || err != nil {
			t.Fatalf("revoked %d, %v", n, err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if !slices.Equal(lost, []string{"42"}) {
			t.Errorf("told to be lost: %q", lost)
		}
		if visit, _ := s.reads(cookies); visit != 0 {
			t.Errorf("the session is back, with visit %d", visit)
		}
	})
}

// Also a handler that would write every field logs too little to name a session.
func TestInfoIsLoggedRedacted(t *testing.T) {
	id, err := session.ParseID("AAAAAAAAAAAAAAAAAAAAAAAAAAAB")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).Info("seen", "info", session.Info{ID: id, Owner: "ann", Rev: session.Rev{N: 7}})
	var line struct{ Info map[string]any }
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	if len(line.Info) != 2 || line.Info["session"] != id.String() || line.Info["rev"] != (session.Rev{N: 7}).String() {
		t.Errorf("logged %s", out.Bytes())
	}
}
