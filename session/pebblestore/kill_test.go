// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package pebblestore_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/belay-ha/belay/session/internal/killtest"
	"github.com/belay-ha/belay/session/pebblestore"
)

func TestKilledProcessLosesNoAcknowledgedWrite(t *testing.T) {
	dir := t.TempDir()
	p := killtest.New(t, dir)
	for round := 1; round <= 3; round++ { // also what is left of a crash after a crash
		p.Start()
		p.Await(1500)
		p.Kill()
		s, err := pebblestore.Open(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Check(); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		p.Verify(s, 1) // the one that was under way
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSecondProcessIsToldWhoHasTheDirectory(t *testing.T) {
	dir := t.TempDir()
	p := killtest.New(t, dir)
	p.Start()
	_, err := pebblestore.Open(dir, nil)
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), fmt.Sprintf("in use by process %d: stop it", p.PID())) {
		t.Errorf("got %v", err)
	}
	p.Await(1) // the first is none the worse
	p.Kill()
	open(t, dir, nil) // the file with the number of a dead process keeps nobody out
}
