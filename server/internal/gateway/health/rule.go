// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package health

// Rule says how many checks in a row change a server's state.
type Rule struct {
	Rise int // passes in a row that bring a server back; at least 1
	Fall int // failures in a row that take it out; at least 1
}

// The whole memory of a server's health is one number from 0 to Rise+Fall-1: it
// is up from Rise on. Up, it starts at the top and Fall failures lead below
// Rise, where it drops to 0; down, Rise passes lead to Rise, where it jumps to
// the top. So both counts are of checks in a row.

// Top is the number of a server that is up and has not failed of late.
func (r Rule) Top() int { return r.Rise + r.Fall - 1 }

// Step returns the number after one more check.
func (r Rule) Step(h int, pass bool) int {
	if pass {
		if h++; h >= r.Rise {
			return r.Top()
		}
		return h
	}
	if h--; h < r.Rise {
		return 0
	}
	return h
}

// Up reports whether a server with this number is up.
func (r Rule) Up(h int) bool { return h >= r.Rise }

// Settled reports whether a server is up without doubt; otherwise it is worth
// asking more often.
func (r Rule) Settled(h int) bool { return h == r.Top() }
