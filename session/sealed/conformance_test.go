// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sealed_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
	"github.com/belay-ha/belay/session/redisstore"
	"github.com/belay-ha/belay/session/sealed"
	"github.com/belay-ha/belay/session/sessiontest"
	"github.com/belay-ha/belay/session/storetest"
)

// secret is a key for tests.
func secret(n byte) []byte {
	k := make([]byte, 32)
	for i := range k {
		k[i] = n + byte(i)
	}
	return k
}

func memory(t testing.TB) *memstore.Store {
	t.Helper()
	s, err := memstore.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func over(t testing.TB, inner session.Store, keys ...[]byte) session.Store {
	t.Helper()
	s, err := sealed.New(inner, keys, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// bare is a store of which nothing is left but the five verbs.
type bare struct{ session.Store }

func TestConformance(t *testing.T) {
	storetest.Config{FakeClock: true}.Run(t, func(t *testing.T) session.Store { return over(t, memory(t), secret(1)) })
}

func TestConformanceWithoutIndex(t *testing.T) {
	storetest.Config{FakeClock: true, Schedules: 5}.Run(t, func(t *testing.T) session.Store {
		return over(t, bare{memory(t)}, secret(1))
	})
}

func TestConformanceWhileSealingBegins(t *testing.T) {
	storetest.Config{FakeClock: true, Schedules: 5}.Run(t, func(t *testing.T) session.Store {
		s, err := sealed.New(memory(t), [][]byte{secret(1)}, &sealed.Options{AcceptPlain: true})
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func TestPromises(t *testing.T) {
	sessiontest.Run(t, func(t *testing.T) session.Store { return over(t, memory(t), secret(1), secret(2)) })
}

func TestPromisesOnRedis(t *testing.T) {
	r := servertest.StartRedis(t)
	var n atomic.Int64 // each test has its own users
	open := func(t *testing.T) session.Store {
		s, err := redisstore.Open(t.Context(), r.URL(), &redisstore.Options{Prefix: fmt.Sprintf("test%d:", n.Add(1))})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return over(t, s, secret(1))
	}
	t.Run("store", func(t *testing.T) { storetest.Config{Schedules: 5}.Run(t, open) })
	t.Run("session", func(t *testing.T) { sessiontest.Run(t, open) })
}
