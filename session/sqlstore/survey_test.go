// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore_test

import (
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/sqlstore"
)

// TestSurveyCountsWhatLives: and says when the last of it ends, whatever its user
// does. That is the end of a session that goes on, and the expiry of one that was
// replaced.
func TestSurveyCountsWhatLives(t *testing.T) {
	t.Parallel()
	f := newFiles(t)
	r := router(t, f.home(), f.dial, sqlstore.Shard{ID: "a"}, sqlstore.Shard{ID: "b"})
	now := time.Now().Truncate(time.Millisecond)
	begin := func(n int, change func(*session.Record)) {
		t.Helper()
		for range n {
			rec := record(time.Hour)
			change(&rec)
			if err := r.Create(t.Context(), placed(r), rec); err != nil {
				t.Fatal(err)
			}
		}
	}
	survey := func() sqlstore.Survey {
		t.Helper()
		s, err := r.Survey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	begin(250, func(rec *session.Record) { rec.Ends = now.Add(6 * time.Hour) })
	begin(20, func(rec *session.Record) { rec.Ends = now.Add(5 * time.Hour) })
	begin(20, func(rec *session.Record) { rec.Expires, rec.Ends = now.Add(-time.Second), now.Add(9*time.Hour) })
	begin(1, func(rec *session.Record) { rec.Next, rec.Ends = newID(), now.Add(9*time.Hour) })
	run2(t, f.dbs["a"], "INSERT INTO belay_sessions (id, term, n, nonce, expires, due, data) VALUES (CAST('damaged' AS BLOB), 1, 1, 1, 9223372036854775807, 2147483647, CAST('x' AS BLOB))")
	s := survey()
	g := s.Generations[0]
	if g.Sessions != 271 || g.Endless != 0 || !g.EmptyAt.Equal(now.Add(6*time.Hour)) || strings.Join(g.Members, " ") != "a b" {
		t.Errorf("generation: %+v, want 271 sessions until %v", g, now.Add(6*time.Hour))
	}
	if x := s.Shards; len(x) != 2 || x[0].Sessions[0]+x[1].Sessions[0] != 271 || x[0].Sessions[0] < 60 || x[1].Sessions[0] < 60 {
		t.Errorf("shards: %+v", x)
	}
	begin(2, func(rec *session.Record) { rec.Ends = time.Time{} })
	begin(1, func(rec *session.Record) { rec.Ends = now.Add(6 * time.Hour) })
	if g := survey().Generations[0]; g.Sessions != 274 || g.Endless != 2 || !g.EmptyAt.IsZero() {
		t.Errorf("with two that have no end: %+v", g)
	}
	if _, err := r.Append(t.Context(), sqlstore.Shard{ID: "c"}); err != nil {
		t.Fatal(err)
	}
	// One that cannot be asked is said, and the others are counted.
	other := router(t, f.home(), f.dial)
	if err := f.dbs["b"].Close(); err != nil {
		t.Fatal(err)
	}
	s, err := other.Survey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if x := s.Shards; len(x) != 3 || x[1].ID != "b" || x[1].Error == "" || x[0].Error != "" || x[0].Sessions[0] == 0 {
		t.Errorf("shards, one of which is away: %+v", x)
	}
	// The list may be a newer one than this router knows; without it there is no answer.
	if err := f.dbs["home"].Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Survey(t.Context()); err == nil || !strings.Contains(err.Error(), "survey") {
		t.Errorf("without the home: %v", err)
	}
}
