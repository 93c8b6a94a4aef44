// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"errors"
	"fmt"

	"github.com/belay-ha/belay/session"
)

// verdicts are errors that answer a call: it is not tried again.
var verdicts = []error{
	session.ErrNotFound, session.ErrExists, session.ErrConflict, session.ErrCorrupt, session.ErrNewer,
	session.ErrTooLarge, session.ErrLocked, session.ErrLeaseLost, errUnknown,
}

// errUnknown: a write may have been carried out, and nobody can tell any more.
var errUnknown = errors.New("the answer was lost, and it is not known whether this was carried out")

// finalError is what would be no different the next time.
type finalError struct{ error }

func (e *finalError) Unwrap() error { return e.error }

func isVerdict(err error) bool {
	for _, v := range verdicts {
		if errors.Is(err, v) {
			return true
		}
	}
	return false
}

// explain names the operation in an error of a call.
func explain(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, session.ErrNotFound), errors.Is(err, session.ErrExists), errors.Is(err, session.ErrConflict):
		return err
	case isVerdict(err) && !errors.Is(err, errUnknown):
		return fmt.Errorf("sqlstore: %s: %w", op, err)
	default:
		return fmt.Errorf("sqlstore: %s: %w: %w", op, session.ErrUnavailable, err)
	}
}
