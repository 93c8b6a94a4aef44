// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"time"
)

// Median is the middle of some values, which need not be sorted; 0 of none.
func Median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	if n == 0 {
		return 0
	}
	return (v[(n-1)/2] + v[n/2]) / 2
}

// MedianOf is the median of a figure of some results.
func MedianOf[R any](results []R, figure func(R) float64) float64 {
	v := make([]float64, len(results))
	for i, r := range results {
		v[i] = figure(r)
	}
	return Median(v)
}

// Times compares a figure of two subjects round by round, so that what slows the
// machine for a while slows both. It is the median; 0 if no round has both.
func Times[R any](one, other []R, figure func(R) float64) float64 {
	var v []float64
	for i := range min(len(one), len(other)) {
		if by := figure(other[i]); by > 0 {
			v = append(v, figure(one[i])/by)
		}
	}
	return Median(v)
}

// IdleBytes is what an idle connection that was answered once adds to the memory
// of a process.
func IdleBytes(ctx context.Context, p *Process, addr string, connections int, question string) (float64, error) {
	before, err := p.RSS()
	if err != nil {
		return 0, err
	}
	conns := make([]net.Conn, 0, connections)
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	buf := make([]byte, 4096)
	for range connections {
		c, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return 0, fmt.Errorf("idle connection: %w", err)
		}
		conns = append(conns, c)
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.WriteString(c, question); err != nil {
			return 0, err
		}
		if _, err := c.Read(buf); err != nil {
			return 0, err
		}
	}
	after, err := p.RSS()
	return float64(after-before) / float64(connections), err
}
