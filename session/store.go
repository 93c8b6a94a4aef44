// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"time"
)

// Store keeps records. Nothing is ever an upsert, so a log-out always wins: what
// was deleted is not written again by anything that knew it before.
//
// All methods are safe for concurrent use, honour the context's deadline, and
// return quickly after it. An error that is none of the sentinels means that
// the outcome is unknown.
type Store interface {
	// Load returns the record. ErrNotFound if there is none or it has expired,
	// ErrCorrupt or ErrNewer if it cannot be read.
	Load(ctx context.Context, id ID) (Record, error)
	// Create writes a new record. ErrExists if one is there and has not expired.
	Create(ctx context.Context, id ID, rec Record) error
	// Update replaces the record whose revision is ifRev. ErrNotFound if there
	// is none (it stays dead), ErrConflict if the revision differs. The expiry
	// becomes rec.Expires, even if that is earlier than before.
	Update(ctx context.Context, id ID, rec Record, ifRev Rev) error
	// Touch moves the expiry to a later moment and nothing else: it never
	// shortens, never changes Rev, never creates. ErrNotFound if there is none.
	Touch(ctx context.Context, id ID, expires time.Time) error
	// Delete removes records. One that is not there is no error.
	Delete(ctx context.Context, ids ...ID) error
}

// Pinger is a store that can be asked whether it would answer.
type Pinger interface {
	Ping(ctx context.Context) error
}

// Runner is a store with background work. Not running it may cost memory,
// never correctness.
type Runner interface {
	Run(ctx context.Context) error
}

// Placer is a store over groups of nodes, called generations. It says in which of
// them a session that begins now lives; its ID carries that for good. If none is
// meant to take sessions, it names one all the same.
type Placer interface {
	Place() (generation byte)
}

// InProcess is a store in this process's memory: its calls never wait, and
// need no time limit.
type InProcess interface {
	InProcess()
}

// Capability finds an optional ability of a store: T is one of the small
// interfaces of this package. It looks at the store and then at what it wraps,
// through methods Unwrap() Store. A wrapper that changes meaning has no Unwrap.
func Capability[T any](s Store) (T, bool) {
	for s != nil {
		if c, ok := s.(T); ok {
			return c, true
		}
		w, ok := s.(interface{ Unwrap() Store })
		if !ok {
			break
		}
		s = w.Unwrap()
	}
	var none T
	return none, false
}
