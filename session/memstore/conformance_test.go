// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memstore_test

import (
	"testing"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
	"github.com/belay-ha/belay/session/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Config{}.RunLimit(t, 1<<20, func(t *testing.T) session.Store { return open(t, &memstore.Options{MaxBytes: 1 << 20}) })
	storetest.Config{FakeClock: true, Schedules: 100}.Run(t, func(t *testing.T) session.Store { return open(t, nil) })
}
