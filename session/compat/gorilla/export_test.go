// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gorilla

// Loaded is how many sessions the store has state of.
func (s *Store) Loaded() (n int) {
	s.loaded.m.Range(func(any, any) bool { n++; return true })
	return n
}
