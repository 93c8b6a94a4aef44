// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package pebblestore_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/belay-ha/belay/session/internal/killtest"
	"github.com/belay-ha/belay/session/pebblestore"
)

// The test binary is also a process that writes: killtest.Child, directory, round.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == killtest.Child {
		if err := child(os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func child(dir, round string) error {
	s, err := pebblestore.Open(dir, &pebblestore.Options{BufferBytes: 256 << 10, SweepEvery: time.Millisecond})
	if err != nil {
		return err
	}
	return killtest.Write(context.Background(), s, round)
}
