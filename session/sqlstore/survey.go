// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/belay-ha/belay/internal/placement"
	"github.com/belay-ha/belay/session"
)

// Survey says where the sessions of a Router live.
type Survey struct {
	// Version is that of the list of generations.
	Version     uint64             `json:"version"`
	Generations []GenerationSurvey `json:"generations"`
	// Shards is every shard of a generation that is not closed.
	Shards []ShardSurvey `json:"shards"`
}

// GenerationSurvey is one generation of a Survey.
type GenerationSurvey struct {
	Epoch byte `json:"epoch"`
	// State is open, draining or closed.
	State string `json:"state"`
	// Share is its part of the new sessions, compared with the other open ones.
	Share int `json:"share,omitempty"`
	// Members are the IDs of its shards.
	Members []string `json:"members"`
	// Sessions is how many live there.
	Sessions int `json:"sessions"`
	// EmptyAt is when the last of the sessions will have ended whatever its user
	// does. Zero: there are none, or some have no end.
	EmptyAt time.Time `json:"empty_at,omitzero"`
	// Endless is how many have no end.
	Endless int `json:"endless,omitempty"`
}

// ShardSurvey is one shard of a Survey.
type ShardSurvey struct {
	ID   string `json:"id"`
	Addr string `json:"addr"`
	// Sessions is how many live there, by generation.
	Sessions map[byte]int `json:"sessions"`
	// Error says why it could not be asked: then there may be more sessions than
	// the Survey knows.
	Error string `json:"error,omitempty"`
}

// Survey reads every session of every shard once. With a million sessions that
// takes a minute and the network's whole width: it is for people, not for a
// monitor.
func (r *Router) Survey(ctx context.Context) (Survey, error) {
	list, err := r.reload(ctx)
	if err != nil {
		return Survey{}, fmt.Errorf("sqlstore: survey: %w", err)
	}
	survey := Survey{Version: list.Version, Generations: make([]GenerationSurvey, len(list.Generations))}
	at := map[byte]*GenerationSurvey{}
	for i := range list.Generations {
		g := &list.Generations[i]
		out := &survey.Generations[i]
		out.Epoch, out.State = g.Epoch, string(g.State)
		if g.State == placement.Open {
			out.Share = max(1, g.Share)
		}
		for _, m := range g.Members {
			out.Members = append(out.Members, m.ID)
		}
		at[g.Epoch] = out
	}
	for _, sh := range r.allShards() {
		out := ShardSurvey{ID: sh.ID, Addr: sh.Addr, Sessions: map[byte]int{}}
		if err := r.surveyShard(ctx, sh, &out, at); err != nil {
			if ctx.Err() != nil {
				return survey, fmt.Errorf("sqlstore: survey: %w", err)
			}
			out.Error = err.Error()
		}
		survey.Shards = append(survey.Shards, out)
	}
	return survey, nil
}

func (r *Router) surveyShard(ctx context.Context, sh *shard, out *ShardSurvey, at map[byte]*GenerationSurvey) error {
	s, err := r.open(ctx, sh)
	if err != nil {
		return err
	}
	return s.walk(ctx, func(id session.ID, rec session.Record) {
		out.Sessions[id.Generation]++
		if g := at[id.Generation]; g != nil {
			g.count(rec)
		}
	})
}

func (g *GenerationSurvey) count(rec session.Record) {
	g.Sessions++
	end := rec.Ends
	if !rec.Next.IsZero() { // replaced: nothing extends it any more
		end = rec.Expires
	}
	switch {
	case end.IsZero():
		g.Endless++
		g.EmptyAt = time.Time{}
	case g.Endless == 0 && end.After(g.EmptyAt):
		g.EmptyAt = end
	}
}

// walk calls f for every session that lives, in the order of their keys, a few at a
// time: nobody waits for it. What is made or deleted meanwhile may be missing, or
// there still.
func (s *Store) walk(ctx context.Context, f func(session.ID, session.Record)) error {
	last := key(session.ID{}) // nobody's
	for {
		var some []walked
		err := s.do(ctx, "walk", func(ctx context.Context, t try) (err error) {
			some, err = s.after(ctx, t, last)
			return err
		})
		if err != nil {
			return err
		}
		now := time.Now()
		for _, w := range some {
			last = w.key
			if w.err == nil && !w.rec.Expired(now) {
				f(w.id, w.rec)
			}
		}
		if len(some) < atOnce {
			return nil
		}
	}
}

// walked is a row. One that cannot be read is nobody's session.
type walked struct {
	key []byte
	id  session.ID
	rec session.Record
	err error
}

// after is the next rows behind a key.
func (s *Store) after(ctx context.Context, t try, last []byte) (some []walked, err error) {
	rows, err := t.reads().QueryContext(ctx, s.sql.after.text, s.sql.after.args([]any{last, atOnce})...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var w walked
		var data []byte
		var expires int64
		if err := rows.Scan(&w.key, &expires, &data); err != nil {
			return nil, err
		}
		var errKey error
		w.id, errKey = parseKey(w.key)
		w.rec, w.err = session.ParseRecord(data)
		w.err = errors.Join(errKey, w.err)
		w.rec.Expires = moment(expires)
		some = append(some, w)
	}
	return some, rows.Err()
}
