// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sealed

import (
	"context"
	"errors"
	"time"

	"github.com/belay-ha/belay/session"
)

var _ session.Watcher = (*store)(nil)

// Watch implements session.Watcher if the inner store is one, else it returns
// errors.ErrUnsupported. A notice names a session and a revision, which are not
// sealed.
func (s *store) Watch(ctx context.Context, every time.Duration, tell func(session.Notice)) error {
	w, ok := session.Capability[session.Watcher](s.inner)
	if !ok {
		return errors.ErrUnsupported
	}
	return w.Watch(ctx, every, tell)
}
