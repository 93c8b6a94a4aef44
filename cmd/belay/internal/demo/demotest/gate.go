// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package demotest

import (
	"context"
	"sync"

	"github.com/belay-ha/belay/session"
)

// Gate stops who comes while it is shut. The zero value is open.
type Gate struct {
	mu sync.Mutex
	c  chan struct{}
}

// Shut shuts the gate, which must be open.
func (g *Gate) Shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.c = make(chan struct{})
}

// Open lets everybody go on. The gate must be shut.
func (g *Gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.c)
	g.c = nil
}

// Pass returns when the gate is open.
func (g *Gate) Pass() {
	g.mu.Lock()
	c := g.c
	g.mu.Unlock()
	if c != nil {
		<-c
	}
}

// Gated is a store whose reads come back through a gate: a process that freezes
// between what it has read and what it is about to write.
type Gated struct {
	session.Store
	Gate *Gate
}

// Load implements session.Store.
func (g Gated) Load(ctx context.Context, id session.ID) (session.Record, error) {
	rec, err := g.Store.Load(ctx, id)
	g.Gate.Pass()
	return rec, err
}
