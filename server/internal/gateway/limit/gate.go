// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package limit

import "sync"

// Gate is a limit of requests at a time. Safe for concurrent use.
type Gate struct {
	most int

	mu     sync.Mutex
	inside map[Client]int
}

// NewGate allows most requests at a time.
func NewGate(most int) *Gate { return &Gate{most: most, inside: make(map[Client]int)} }

// Enter counts a request; Leave must follow. It reports false if it is one too many.
func (g *Gate) Enter(c Client) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside[c] >= g.most {
		return false
	}
	g.inside[c]++
	return true
}

// Leave ends what Enter began.
func (g *Gate) Leave(c Client) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside[c]--; g.inside[c] <= 0 {
		delete(g.inside, c)
	}
}
