// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package peerstore

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// All, as Options.Copies, makes every node hold every session.
const All = -1

// Options of New. The zero value of each field is its default.
type Options struct {
	// Group is common to the nodes that share sessions. Letters, digits, '-' and
	// '_'. Default "belay".
	Group string
	// Copies of each session besides the first, each on another node; All: on
	// every node. Fewer if there are not so many nodes. Default 1.
	Copies int
	// MinCopies is how many other nodes must have a write before it is
	// acknowledged; with fewer it fails with session.ErrUnavailable, and the last
	// node that is left takes no writes. Default 0: it goes on alone.
	MinCopies int
	// MaxBytes bounds the memory of this node's sessions, its copies of others'
	// included, as estimated. At the bound new sessions fail with ErrFull. Default
	// 512 MiB; negative: no bound.
	MaxBytes int64
	// Lifetime is for how long a deletion is remembered at least: the absolute
	// limit of sessions, or more. Default 24 h.
	Lifetime time.Duration
	// Silence is after what time without a sign a node is taken for dead, at least
	// 200 ms. Default 2 s.
	Silence time.Duration
	// HandOver bounds how long Run, when its context has ended, gives what this
	// node holds to the others. Default 5 s; negative: it does not.
	HandOver time.Duration
	// Timeout bounds a call whose context has no deadline. Default 2 s.
	Timeout time.Duration
	// Logger gets what no caller can be told; nil: nobody.
	Logger *slog.Logger
}

const (
	defaultGroup    = "belay"
	defaultCopies   = 1
	defaultMaxBytes = 512 << 20
	defaultLifetime = 24 * time.Hour
	defaultSilence  = 2 * time.Second
	minSilence      = 200 * time.Millisecond
	defaultHandOver = 5 * time.Second
	defaultTimeout  = 2 * time.Second
)

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

func (o *Options) withDefaults(node string) (Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	if c.Group == "" {
		c.Group = defaultGroup
	}
	if c.Copies == 0 {
		c.Copies = defaultCopies
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = defaultMaxBytes
	}
	if c.Lifetime == 0 {
		c.Lifetime = defaultLifetime
	}
	if c.Silence == 0 {
		c.Silence = defaultSilence
	}
	if c.HandOver == 0 {
		c.HandOver = defaultHandOver
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf("peerstore: new: "+format, a...)) }
	if node == "" || strings.Trim(node, letters) != "" {
		bad("node %q: want letters, digits, '-' and '_'", node)
	}
	if strings.Trim(c.Group, letters) != "" {
		bad("Group %q: want letters, digits, '-' and '_'", c.Group)
	}
	if c.Copies < All {
		bad("Copies %d: want a number of nodes, or All", c.Copies)
	}
	if c.MinCopies < 0 || c.Copies != All && c.MinCopies > c.Copies {
		bad("MinCopies %d: want 0 to Copies, %d", c.MinCopies, c.Copies)
	}
	if c.Silence < minSilence {
		bad("Silence %v: want %v or more", c.Silence, minSilence)
	}
	if c.Lifetime < 0 {
		bad("Lifetime is negative")
	}
	if c.Timeout < 0 {
		bad("Timeout is negative")
	}
	return c, errors.Join(errs...)
}
