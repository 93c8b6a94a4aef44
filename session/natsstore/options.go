// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package natsstore

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Options of Open. The zero value of each field is its default.
type Options struct {
	// Name begins the names of the buckets: Name-0, Name-1 … of sessions and
	// Name-owners0, Name-owners1 … of what is known of their owners, and of leases.
	// Letters, digits, '-' and '_'. Default "belay".
	Name string
	// Buckets is how many buckets sessions are spread over when they are first
	// made, and their owners over as many; each has its own write path. Later
	// opens take the number from the server, and refuse another one. Default 4, with
	// Replicas 8; at most 64.
	Buckets int
	// Replicas of each bucket, 1 to 5, when they are first made. With 3 the death of
	// one of them loses nothing; 2 are worse than 1, for both are needed. Default 1.
	Replicas int
	// StaleReads is for how long after a replicated bucket's leader was last heard
	// its followers may answer Load: while they elect a new one. What they answer
	// may lack what was acknowledged just before the leader died, but is never older
	// than what this Store has seen. Default 10 s; negative: the leader alone answers.
	StaleReads time.Duration
	// MaxBytes bounds each bucket of sessions on disk when it is first made; at the
	// bound writes fail. Those of owners have no bound: a revocation needs room.
	// Default: no bound.
	MaxBytes int64
	// Timeout bounds a call whose context has no deadline. Default 2 s.
	Timeout time.Duration
}

const (
	defaultName       = "belay"
	defaultBuckets    = 4
	replicatedBuckets = 8
	maxBuckets        = 64
	defaultTimeout    = 2 * time.Second
	defaultStaleReads = 10 * time.Second
)

func (o *Options) withDefaults() (Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	if c.Name == "" {
		c.Name = defaultName
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.Replicas == 0 {
		c.Replicas = 1
	}
	if c.StaleReads == 0 {
		c.StaleReads = defaultStaleReads
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = -1
	}
	var errs []error
	if strings.Trim(c.Name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
		errs = append(errs, fmt.Errorf("natsstore: open: Name %q: only letters, digits, '-' and '_'", c.Name))
	}
	if c.Buckets < 0 || c.Buckets > maxBuckets {
		errs = append(errs, fmt.Errorf("natsstore: open: Buckets %d: want 1 to %d", c.Buckets, maxBuckets))
	}
	if c.Replicas < 1 || c.Replicas > 5 {
		errs = append(errs, fmt.Errorf("natsstore: open: Replicas %d: want 1 to 5", c.Replicas))
	}
	if c.Timeout < 0 {
		errs = append(errs, errors.New("natsstore: open: Timeout is negative"))
	}
	return c, errors.Join(errs...)
}
