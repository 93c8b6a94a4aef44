// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package prom

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/belay-ha/belay/session"
)

var (
	events = []string{"created", "renewed", "destroyed", "expired", "lost", "taken_over", "dropped", "rollback", "corrupt", "undecodable", "bad_token", "several_tokens"}
	stages = []string{beforeHandler, beforeCommit}
	ops    = []string{"create", "delete", "epoch", "extend", "index", "list", "load", "lock", "patch", "revoke", "touch", "unindex", "unlock", "update", other}
)

const (
	beforeHandler = "before_handler"
	beforeCommit  = "before_commit"
	other         = "other"
)

// Hooks registers the metrics with reg and returns hooks that count. It fails,
// and registers nothing, if reg has one of them already: for a second Manager in
// one process wrap reg with prometheus.WrapRegistererWith and a label that tells
// the two apart, or give both the same hooks. The hooks are safe for concurrent
// use and allocate nothing.
func Hooks(reg prometheus.Registerer) (session.Hooks, error) {
	if reg == nil {
		return session.Hooks{}, errors.New("prom: hooks: a registerer is needed; there is no global one")
	}
	event := vec("events_total", "Events in the life of sessions.", "event")
	conflicts := prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "belay", Subsystem: "session", Name: "conflicts_total",
		Help: "Commits that met a newer record and applied their changes to that.",
	})
	refused := vec("refused_attempts_total", "Attempts that came after the deadline their gateway gave them.", "stage")
	failed := vec("store_errors_total", "Store calls that failed: errors, not answers such as not found.", "op")

	var done []prometheus.Collector
	for _, c := range []prometheus.Collector{event, conflicts, refused, failed} {
		if err := reg.Register(c); err != nil {
			for _, d := range done {
				reg.Unregister(d)
			}
			return session.Hooks{}, fmt.Errorf("prom: hooks: %w", err)
		}
		done = append(done, c)
	}

	e, st, op := series(event, events), series(refused, stages), series(failed, ops)
	count := func(name string) func(context.Context, session.Info) {
		c := e[name]
		return func(context.Context, session.Info) { c.Inc() }
	}
	return session.Hooks{
		Created:       count("created"),
		Renewed:       count("renewed"),
		Destroyed:     count("destroyed"),
		Expired:       count("expired"),
		Conflict:      func(context.Context, session.Info) { conflicts.Inc() },
		Lost:          count("lost"),
		TakenOver:     count("taken_over"),
		Dropped:       func(context.Context, session.Info, string) { e["dropped"].Inc() },
		Rollback:      func(context.Context, session.Info, session.Rev) { e["rollback"].Inc() },
		Corrupt:       count("corrupt"),
		Undecodable:   func(context.Context, string, error) { e["undecodable"].Inc() },
		BadToken:      func(context.Context) { e["bad_token"].Inc() },
		SeveralTokens: func(context.Context) { e["several_tokens"].Inc() },
		Refused: func(_ context.Context, started bool) {
			if started {
				st[beforeCommit].Inc()
				return
			}
			st[beforeHandler].Inc()
		},
		StoreError: func(_ context.Context, name string, _ error) {
			c, ok := op[name]
			if !ok { // a store's or a later version's: the label stays bounded
				c = op[other]
			}
			c.Inc()
		},
	}, nil
}

func vec(name, help, label string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "belay", Subsystem: "session", Name: name, Help: help,
	}, []string{label})
}

// series makes every time series, so that each is seen from the start.
func series(v *prometheus.CounterVec, values []string) map[string]prometheus.Counter {
	m := make(map[string]prometheus.Counter, len(values))
	for _, value := range values {
		m[value] = v.WithLabelValues(value)
	}
	return m
}
