// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"
)

// Patcher is a store that can change some attributes of a record without being
// given the others. The Manager then writes what a request changed; without it,
// the whole record.
type Patcher interface {
	// Patch is Update for a record of which only attributes change, and Rev, Seen
	// and Expires with every write: ErrNotFound if there is none (it stays dead),
	// ErrConflict if its revision is not p.IfRev, ErrExpiredAttempt if p.Deadline
	// has passed by the store's own clock.
	//
	// errors.ErrUnsupported says that this time the record must be written by
	// Update: because too much has been patched since the last one, or, each time,
	// from a wrapper whose store is no Patcher. Nothing was written then, as with
	// every other of these errors.
	Patch(ctx context.Context, id ID, p Patch) error
}

// Patch is what one write changes of a record.
type Patch struct {
	// IfRev is the revision it was made from, Rev the one that follows from it.
	IfRev, Rev Rev
	// Seen and Expires become those of the record, Expires also if it was later.
	Seen, Expires time.Time
	// Set are attributes with their new values, sorted by name.
	Set Attrs
	// Delete names attributes that are removed. To remove one that is not there
	// is no error.
	Delete []string
	// Deadline is the moment after which nothing may be written any more. It is
	// compared with the clock of the store, not with that of the caller, who may
	// have been frozen after he looked at his. Zero: none.
	Deadline time.Time
}

// patchOf is what makes rec of base; ok is false if more differs than a Patch can
// say.
func patchOf(base, rec *Record) (p Patch, ok bool) {
	same := base.Owner == rec.Owner && base.Prev == rec.Prev && base.Next == rec.Next && base.Follow == rec.Follow &&
		base.Created.Equal(rec.Created) && base.Ends.Equal(rec.Ends) && base.Issued.Equal(rec.Issued) &&
		base.AuthTime.Equal(rec.AuthTime) && slices.Equal(base.Once, rec.Once)
	if !same {
		return Patch{}, false
	}
	p = Patch{IfRev: base.Rev, Rev: rec.Rev, Seen: rec.Seen, Expires: rec.Expires}
	was, is := base.Attrs, rec.Attrs
	for len(was) > 0 || len(is) > 0 {
		switch {
		case len(is) == 0 || len(was) > 0 && was[0].Name < is[0].Name:
			p.Delete = append(p.Delete, was[0].Name)
			was = was[1:]
		case len(was) == 0 || is[0].Name < was[0].Name:
			p.Set = append(p.Set, is[0])
			is = is[1:]
		default:
			if !bytes.Equal(was[0].Value, is[0].Value) {
				p.Set = append(p.Set, is[0])
			}
			was, is = was[1:], is[1:]
		}
	}
	return p, true
}

// patch writes rec by Store.Patch if that can be done; tried is false if not.
func (m *Manager) patch(ctx context.Context, id ID, rec, base *Record) (tried bool, err error) {
	if m.patcher == nil {
		return false, nil
	}
	p, ok := patchOf(base, rec)
	if !ok {
		return false, nil
	}
	if e, ok := ctx.Value(exchangeKey{m}).(*exchange); ok && e.attempt != nil {
		p.Deadline = time.UnixMilli(e.attempt.deadline.Load())
	}
	err = m.call(ctx, "patch", func(ctx context.Context) error { return m.patcher.Patch(ctx, id, p) })
	return !errors.Is(err, errors.ErrUnsupported), err
}
