// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore_test

import (
	"cmp"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/redisstore"
)

// TestRoundTrips holds requests to their price on the wire.
func TestRoundTrips(t *testing.T) {
	r := servertest.StartRedis(t)
	m, err := session.New(open(t, r.URL(), nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	visits := session.NewKey[int]("visits")
	var cookies []*http.Cookie
	request := func(f func(*session.Session)) {
		t.Helper()
		q := httptest.NewRequest("GET", "/", nil)
		for _, c := range cookies {
			q.AddCookie(c)
		}
		w := httptest.NewRecorder()
		m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
			if f == nil {
				return
			}
			s, err := m.Get(q.Context())
			if err != nil {
				t.Error(err)
			}
			f(s)
		})).ServeHTTP(w, q)
		if got := w.Result().Cookies(); len(got) > 0 {
			cookies = got
		}
		if w.Code != http.StatusOK {
			t.Fatalf("status %d", w.Code)
		}
	}
	read := func(s *session.Session) {
		if _, ok := visits.Get(s); !ok {
			t.Error("no session")
		}
	}
	write := func(s *session.Session) { visits.Update(s, func(n int) int { return n + 1 }) }
	request(write)
	request(write) // the server knows the scripts
	// What a script calls counts as well; but none of them calls these.
	calls := func(command string) string {
		n, _, _ := strings.Cut(strings.TrimPrefix(r.Info("commandstats")["cmdstat_"+command], "calls="), ",")
		return cmp.Or(n, "0")
	}
	for _, tc := range []struct {
		name           string
		times          int
		f              func(*session.Session)
		loads, scripts string
	}{
		{"a request that does not use the session", 10, nil, "0", "0"},
		{"a read", 1, read, "1", "0"},
		{"a write", 1, write, "1", "1"},
		{"ten reads: none moves the idle limit", 10, read, "10", "0"},
	} {
		if got := r.Command("CONFIG RESETSTAT"); got != "+OK" {
			t.Fatal(got)
		}
		for range tc.times {
			request(tc.f)
		}
		if loads, scripts, plain := calls("hmget"), calls("evalsha"), calls("hgetall"); loads != tc.loads || scripts != tc.scripts || plain != "0" {
			t.Errorf("%s: %s HMGET, %s EVALSHA, %s HGETALL; want %s, %s, none", tc.name, loads, scripts, plain, tc.loads, tc.scripts)
		}
	}
}

// A write asks the server to wait for its replicas without waiting for its own
// answer first.
func TestAWaitRidesAlong(t *testing.T) {
	master := servertest.StartRedis(t)
	servertest.StartReplica(t, master).AwaitCopy(master)
	p := newProxy(t, master.Addr())
	s := open(t, p.url(), &redisstore.Options{Replicas: 1, ReplicaTimeout: 20 * time.Second})
	id, rec := newID(1), record(time.Hour)
	if err := errors.Join(s.Create(t.Context(), id, rec), s.Update(t.Context(), id, next(rec, "1"), rec.Rev)); err != nil {
		t.Fatal(err) // the server knows the scripts now
	}
	rec = next(rec, "1")
	came := p.holdUntil("\r\nWAIT\r\n")
	err := s.Update(within(t, 10*time.Second), id, next(rec, "2"), rec.Rev)
	if rode := came(); !rode || err != nil {
		t.Errorf("no answer had come: WAIT sent %v, %v", rode, err)
	}
}
