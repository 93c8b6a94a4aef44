// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package pebblestore_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/pebblestore"
	"github.com/belay-ha/belay/session/storetest"
)

// The disk is this store's server: it hangs, as one does that is reset or on a
// network. That a process is killed or the power fails is in kill_test.go and
// crash_test.go.
func TestFaultsOfTheDisk(t *testing.T) {
	g := &gate{}
	var open func()
	storetest.Faults{
		Open: func(t testing.TB, _ []string) (session.Store, func()) {
			s, err := pebblestore.OpenFS(errorfs.Wrap(vfs.NewMem(), g), small())
			if err != nil {
				t.Fatal(err)
			}
			return s, func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
		},
		Servers: []storetest.Server{{Freeze: func() { open = g.shut() }, Thaw: func() { open() }}},
	}.Run(t)
}
