// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"errors"
	"net"
	"testing"
)

type writer struct {
	net.Conn
	write func([]byte) (int, error)
}

func (w writer) Write(p []byte) (int, error) { return w.write(p) }

// What a write has caused may be heard before the write returns: it is counted by
// then. What the kernel did not take is not.
func TestCountedBeforeItIsOut(t *testing.T) {
	var c counted
	var during int64
	c.Conn = writer{write: func(p []byte) (int, error) {
		during = c.n.Load()
		return len(p), nil
	}}
	if _, err := c.Write([]byte("head")); err != nil || during != 4 || c.n.Load() != 4 {
		t.Errorf("%d counted while it went out, %d afterwards, %v; want 4", during, c.n.Load(), err)
	}
	c.Conn = writer{write: func([]byte) (int, error) { return 0, errors.New("reset") }}
	if _, err := c.Write([]byte("more")); err == nil || c.n.Load() != 4 {
		t.Errorf("%d counted, %v; nothing went out", c.n.Load(), err)
	}
}
