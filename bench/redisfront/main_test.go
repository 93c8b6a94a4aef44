// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import "testing"

func TestParse(t *testing.T) {
	const head = "\"test\",\"rps\",\"avg_latency_ms\"\n\"SET\",\"50000.00\",\"0.5\"\n"
	// As long for each kind: the mean is the harmonic one.
	if rate, err := parse(head + "\"GET\",\"100000.00\",\"0.4\"\n"); err != nil || int(rate) != 66666 {
		t.Error(rate, err)
	}
	if _, err := parse(head); err == nil {
		t.Error("half of the lines were enough")
	}
}
