// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/belay-ha/belay/session"
)

func TestMeasure(t *testing.T) {
	r, err := measure(2000, session.JSON{})
	if err != nil {
		t.Fatal(err)
	}
	if r.record < encoded-16 || r.record > encoded {
		t.Errorf("records of %d bytes, want %d", r.record, encoded)
	}
	if r.perSession < uint64(r.record) || r.perSession > 2400 {
		t.Errorf("%d bytes for each session of %d", r.perSession, r.record)
	}
}
