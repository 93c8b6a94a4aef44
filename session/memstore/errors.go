// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memstore

import (
	"fmt"

	"github.com/belay-ha/belay/session"
)

// ErrFull: the store is at Options.MaxSessions or MaxBytes and nothing in it
// has expired. Nothing was written. It wraps session.ErrUnavailable, so that the
// Manager answers 503 instead of logging somebody else out.
var ErrFull = fmt.Errorf("memstore: full: %w", session.ErrUnavailable)
