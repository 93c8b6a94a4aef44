// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcachedstore

import (
	"context"
	"fmt"
	"time"

	"github.com/belay-ha/belay/internal/memcache"
	"github.com/belay-ha/belay/internal/placement"
	"github.com/belay-ha/belay/session"
)

// Survey says where sessions live.
type Survey struct {
	// Version is that of the placement list.
	Version     uint64             `json:"version"`
	Generations []GenerationSurvey `json:"generations"`
	// Nodes is every server of a generation that is not closed.
	Nodes []NodeSurvey `json:"nodes"`
}

// GenerationSurvey is one generation of a Survey.
type GenerationSurvey struct {
	Epoch byte `json:"epoch"`
	// State is open, draining or closed.
	State string `json:"state"`
	// Share is its part of the new sessions, compared with the other open ones.
	Share int `json:"share,omitempty"`
	// Members are the addresses of its nodes.
	Members []string `json:"members"`
	// Sessions is how many live there, Deleted of how many the end is remembered.
	Sessions int `json:"sessions"`
	Deleted  int `json:"deleted"`
	// EmptyAt is when the last of the sessions will have ended whatever its user
	// does. Zero: there are none, or some have no end.
	EmptyAt time.Time `json:"empty_at,omitzero"`
	// Endless is how many have no end.
	Endless int `json:"endless,omitempty"`
}

// NodeSurvey is one server of a Survey.
type NodeSurvey struct {
	Addr string `json:"addr"`
	// Copies is how many copies of sessions it has, by generation.
	Copies map[byte]int `json:"copies"`
	// Evictions is how many entries it threw away since it was started.
	Evictions string `json:"evictions,omitempty"`
	// Error says why it could not be asked: then there may be more sessions than
	// the Survey knows.
	Error string `json:"error,omitempty"`
}

// Survey lists every session on every node and reads each once. On a group with a
// million sessions that takes a minute and the network's whole width: it is for
// people, not for a monitor. Sessions that are in use at that very moment may be
// missing.
func (s *Store) Survey(ctx context.Context) (Survey, error) {
	if err := s.Reload(ctx); err != nil && ctx.Err() != nil {
		return Survey{}, err
	}
	list := s.dir.List()
	survey := Survey{Version: list.Version}
	at := map[byte]*GenerationSurvey{}
	survey.Generations = make([]GenerationSurvey, len(list.Generations))
	for i := range list.Generations {
		g := &list.Generations[i]
		out := &survey.Generations[i]
		out.Epoch, out.State = g.Epoch, string(g.State)
		if g.State == placement.Open {
			out.Share = max(1, g.Share)
		}
		for _, m := range g.Members {
			out.Members = append(out.Members, m.Addr)
		}
		at[g.Epoch] = out
	}
	known := map[session.ID]bool{}
	for _, n := range s.allNodes() {
		out := NodeSurvey{Addr: n.addr, Copies: map[byte]int{}}
		if err := s.surveyNode(ctx, n, &out, known, at); err != nil {
			if ctx.Err() != nil {
				return survey, fmt.Errorf("memcachedstore: survey: %w", err)
			}
			out.Error = err.Error()
		}
		survey.Nodes = append(survey.Nodes, out)
	}
	return survey, nil
}

func (s *Store) surveyNode(ctx context.Context, n *node, out *NodeSurvey, known map[session.ID]bool, at map[byte]*GenerationSurvey) error {
	stats, err := n.client.Stats(ctx, "")
	if err != nil {
		return err
	}
	out.Evictions = stats["evictions"]
	var fresh []session.ID
	err = n.client.Entries(ctx, func(e memcache.Entry) error {
		if id, ok := s.parseKey(e.Key); ok {
			out.Copies[id.Generation]++
			if !known[id] {
				known[id] = true
				fresh = append(fresh, id)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	now := time.Now()
	for len(fresh) > 0 {
		part := fresh[:min(walkBatch, len(fresh))]
		fresh = fresh[len(part):]
		keys := make([]string, len(part))
		for i, id := range part {
			keys[i] = s.opts.Prefix + id.Key()
		}
		items, err := n.client.GetMulti(ctx, keys...)
		if err != nil {
			return err
		}
		for i, id := range part {
			if item, ok := items[keys[i]]; ok && at[id.Generation] != nil {
				at[id.Generation].count(item.Value, now)
			}
		}
	}
	return nil
}

// count adds what a copy says.
func (g *GenerationSurvey) count(raw []byte, now time.Time) {
	e, err := parseEntry(raw)
	switch {
	case err != nil:
	case e.dead:
		g.Deleted++
	case e.expired(now):
	case !endsForGood(e):
		g.Sessions++
		g.Endless++
		g.EmptyAt = time.Time{}
	default:
		g.Sessions++
		if end := time.UnixMilli(e.horizon); g.Endless == 0 && end.After(g.EmptyAt) {
			g.EmptyAt = end
		}
	}
}

// endsForGood reports whether nothing that its user does makes a session live
// beyond its horizon. One without an absolute end lives on with each touch.
func endsForGood(e entry) bool {
	rec, err := session.ParseRecord(e.body)
	return err == nil && e.horizon != 0 && (!rec.Ends.IsZero() || !rec.Next.IsZero())
}
