// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import "errors"

// Errors of stores. A store returns them wrapped or bare; callers use errors.Is.
var (
	// ErrNotFound: no such session, or it has expired.
	ErrNotFound = errors.New("session: not found")
	// ErrExists: Create found a record under that ID.
	ErrExists = errors.New("session: already exists")
	// ErrConflict: the stored revision is not the one the caller expected.
	ErrConflict = errors.New("session: changed meanwhile")
	// ErrCorrupt: the stored bytes are damaged. The Manager treats it as absent.
	ErrCorrupt = errors.New("session: record is damaged")
	// ErrNewer: a newer program wrote the record. The Manager answers as if the
	// store were away and leaves record and cookie alone.
	ErrNewer = errors.New("session: record was written by a newer version")
	// ErrTooLarge: the record is over a limit of the store.
	ErrTooLarge = errors.New("session: record too large")
)

// Errors of the Manager and of sessions.
var (
	// ErrNoMiddleware: the request did not pass through Manager.Handler.
	ErrNoMiddleware = errors.New("session: no session in this context: wrap the handler in Manager.Handler")
	// ErrUnavailable: the store did not answer in time, or answered an error.
	ErrUnavailable = errors.New("session: store unavailable")
	// ErrHeaderSent: a change came after the response header, and needs a
	// cookie that can no longer be sent.
	ErrHeaderSent = errors.New("session: the response header was sent before the change")
	// ErrDestroyed: the session was destroyed earlier in this request.
	ErrDestroyed = errors.New("session: destroyed")
	// ErrSuperseded: the session got a new token while this request, which came
	// with the old one, wanted to change it. Sent again with the new cookie it works.
	ErrSuperseded = errors.New("session: renewed meanwhile")
	// ErrExpiredAttempt: the gateway has given this attempt up; what it wanted
	// to change was not written.
	ErrExpiredAttempt = errors.New("session: the attempt's deadline has passed")
)
