// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sessiontest_test

import (
	"testing"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
	"github.com/belay-ha/belay/session/sessiontest"
)

func TestMemstore(t *testing.T) {
	schedules := 10_000
	if testing.Short() {
		schedules = 500
	}
	sessiontest.Config{Schedules: schedules}.Run(t, func(t *testing.T) session.Store {
		s, err := memstore.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}
