// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/belay-ha/belay/session"
)

// Calls makes store calls. It is safe for concurrent use.
type Calls struct {
	Name    string // of the adapter, for errors
	Store   session.Store
	Timeout time.Duration // of each call
	// StoreError is session.Hooks.StoreError; it may be nil.
	StoreError func(ctx context.Context, op string, err error)
}

// Call bounds one store call and gives its error a name. What a store has to
// say (not found, exists, conflict, corrupt) comes back as it is.
func (c *Calls) Call(ctx context.Context, op string, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	err := f(ctx)
	if err == nil {
		return nil
	}
	for _, known := range []error{session.ErrNotFound, session.ErrExists, session.ErrConflict, session.ErrCorrupt} {
		if errors.Is(err, known) {
			return err
		}
	}
	if c.StoreError != nil {
		c.StoreError(ctx, op, err)
	}
	if errors.Is(err, session.ErrNewer) || errors.Is(err, session.ErrTooLarge) || errors.Is(err, session.ErrUnavailable) {
		return fmt.Errorf("%s: %s: %w", c.Name, op, err)
	}
	return fmt.Errorf("%s: %s: %w: %w", c.Name, op, session.ErrUnavailable, err)
}

// Load is Store.Load.
func (c *Calls) Load(ctx context.Context, id session.ID) (rec session.Record, err error) {
	err = c.Call(ctx, "load", func(ctx context.Context) error {
		rec, err = c.Store.Load(ctx, id)
		return err
	})
	return rec, err
}

// Reload is what follows a conflict: a short pause, if it is not the first, and
// the newest record.
func (c *Calls) Reload(ctx context.Context, id session.ID, try int) (session.Record, error) {
	if try > 0 {
		select {
		case <-ctx.Done():
			return session.Record{}, session.ErrConflict
		case <-time.After(time.Duration(rand.Int64N(int64(time.Millisecond) << min(try, 5)))):
		}
	}
	return c.Load(ctx, id)
}

// Create is Store.Create.
func (c *Calls) Create(ctx context.Context, id session.ID, rec session.Record) error {
	return c.Call(ctx, "create", func(ctx context.Context) error { return c.Store.Create(ctx, id, rec) })
}

// Update is Store.Update.
func (c *Calls) Update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) error {
	return c.Call(ctx, "update", func(ctx context.Context) error { return c.Store.Update(ctx, id, rec, ifRev) })
}

// Delete is Store.Delete.
func (c *Calls) Delete(ctx context.Context, id session.ID) error {
	return c.Call(ctx, "delete", func(ctx context.Context) error { return c.Store.Delete(ctx, id) })
}

// Emit calls a hook, if there is one.
func Emit(ctx context.Context, h func(context.Context, session.Info), i session.Info) {
	if h != nil {
		h(ctx, i)
	}
}

// InfoOf describes a record to hooks.
func InfoOf(id session.ID, r *session.Record) session.Info {
	return session.Info{ID: id, Rev: r.Rev, Created: r.Created, Seen: r.Seen, Expires: r.Expires}
}

// Now is the time as records keep it.
func Now() time.Time { return time.Now().Truncate(time.Millisecond) }
