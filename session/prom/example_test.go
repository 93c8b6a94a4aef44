// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package prom_test

import (
	"context"
	"fmt"
	"log"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
	"github.com/belay-ha/belay/session/prom"
)

func ExampleHooks() {
	registry := prometheus.NewRegistry() // yours: the one that /metrics shows
	counters, err := prom.Hooks(registry)
	if err != nil {
		log.Fatal(err)
	}
	store, err := memstore.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	hooks := prom.Join(counters, session.Hooks{
		Destroyed: func(_ context.Context, i session.Info) { fmt.Println("logged out:", i.Owner) },
	})
	if _, err := session.New(store, &session.Options{Hooks: hooks}); err != nil {
		log.Fatal(err)
	}

	// What a Manager does when somebody logs out:
	hooks.Destroyed(context.Background(), session.Info{Owner: "jane"})
	families, _ := registry.Gather()
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if m.GetCounter().GetValue() > 0 {
				fmt.Println(f.GetName(), m.GetLabel()[0].GetValue(), m.GetCounter().GetValue())
			}
		}
	}
	// Output:
	// logged out: jane
	// belay_session_events_total destroyed 1
}
