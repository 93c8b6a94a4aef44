// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime"
	"testing"
)

// The collector leaves at least as much garbage as there is spare memory.
func TestSpare(t *testing.T) {
	rest := spare()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.NextGC < 2*uint64(len(rest)) || len(rest) < 8<<20 {
		t.Errorf("the next collection is at %d bytes; %d are spare", m.NextGC, len(rest))
	}
	runtime.KeepAlive(rest)
}
