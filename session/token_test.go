// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import "testing"

func TestT01_AMillionTokensAreDifferent(t *testing.T) {
	const n = 1_000_000
	m := &Manager{}
	seen := make(map[[21]byte]bool, n)
	for range n {
		tok := m.newToken()
		if seen[tok] {
			t.Fatal("the same token twice")
		}
		seen[tok] = true
	}
}
