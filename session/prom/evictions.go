// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package prom

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Evictions registers belay_session_store_evictions_total with reg and returns what
// raises it, for redisstore.Options.Evicted and memcachedstore.Hooks.Evicted; both
// are called by the store's Run. It counts what all servers threw away together.
// It fails like Hooks, and what it returns is safe for concurrent use.
func Evictions(reg prometheus.Registerer) (func(server string, n uint64), error) {
	if reg == nil {
		return nil, errors.New("prom: evictions: a registerer is needed; there is no global one")
	}
	c := prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "belay", Subsystem: "session", Name: "store_evictions_total",
		Help: "Entries that a store's servers threw away because their memory was full: users may have been logged out.",
	})
	if err := reg.Register(c); err != nil {
		return nil, fmt.Errorf("prom: evictions: %w", err)
	}
	return func(_ string, n uint64) { c.Add(float64(n)) }, nil
}
