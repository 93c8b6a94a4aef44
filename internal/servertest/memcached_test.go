// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package servertest_test

import (
	"strings"
	"testing"

	"github.com/belay-ha/belay/internal/servertest"
)

func TestMemcachedIsEmptyAfterARestart(t *testing.T) {
	m := servertest.StartMemcached(t, "-m", "16")
	if got := m.Command("ms k 0 T60\r\n"); got != "HD" {
		t.Fatalf("ms: %s", got)
	}
	if got := m.Command("mg k s"); got != "HD s0" {
		t.Errorf("mg: %s", got)
	}
	m.Restart()
	if got := m.Command("mg k s"); got != "EN" {
		t.Errorf("mg after the restart: %s", got)
	}
	if got := m.Command("version"); !strings.HasPrefix(got, "VERSION 1.") {
		t.Errorf("version: %s", got)
	}
}
