// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package belayscs

import (
	"errors"
	"fmt"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/belay-ha/belay/session"
)

// Options are the optional settings of New. The zero value of each field is its
// default. They are copied.
type Options struct {
	// Codec is the Codec of the SessionManager: changes are merged by decoding
	// them. Default scs.GobCodec, which is the default there, too.
	Codec scs.Codec
	// Timeout bounds each call to the store. Default 2 s.
	Timeout time.Duration
	// CommitTimeout bounds a whole commit or delete with its retries. It does
	// not end when the client goes away. Default 5 s.
	CommitTimeout time.Duration
	// Tombstone is how long a deleted token is remembered in the store, as an
	// empty record, so that a commit that did not pass Middleware cannot bring
	// it back. Default 1 h; negative: not at all, for applications all of whose
	// commits pass Middleware.
	Tombstone time.Duration
	// Index names the list of sessions that All and SessionManager.Iterate go
	// through, one per application. It needs a store that is a session.Indexer
	// and costs one call per new session and per log-out. Default: no list,
	// and Iterate fails with errors.ErrUnsupported.
	Index string
	// Old is the store that the application had before. A token that is not
	// found here is looked for there, and its session moves here, under the same
	// token; a log-out deletes it in both. Old is called without a Timeout if it
	// is no scs.CtxStore. Default: none.
	Old scs.Store
	// Hooks are told what happens: Created, Destroyed, Conflict, Lost, Corrupt,
	// BadToken and StoreError. A renewal is a Destroyed and a Created.
	Hooks session.Hooks
}

func (o *Options) withDefaults() (Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	if c.Codec == nil {
		c.Codec = scs.GobCodec{}
	}
	for _, d := range []struct {
		v       *time.Duration
		initial time.Duration
	}{{&c.Timeout, 2 * time.Second}, {&c.CommitTimeout, 5 * time.Second}, {&c.Tombstone, time.Hour}} {
		if *d.v == 0 {
			*d.v = d.initial
		}
	}
	var errs []error
	if c.Timeout < 0 || c.CommitTimeout < 0 {
		errs = append(errs, errors.New("belayscs: new: Timeout and CommitTimeout cannot be negative: a call without a limit could hang a request for ever"))
	}
	if c.Tombstone > 0 && c.Tombstone < time.Second {
		errs = append(errs, fmt.Errorf("belayscs: new: Tombstone must be at least 1 s, not %v; negative: none", c.Tombstone))
	}
	if c.Tombstone < 0 && c.Old != nil {
		errs = append(errs, errors.New("belayscs: new: Old needs a Tombstone: without one a session that is just moving comes back after its log-out"))
	}
	return c, errors.Join(errs...)
}
