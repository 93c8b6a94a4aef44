// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcache

import (
	"errors"
	"fmt"
)

var (
	// ErrMiss: there is no entry under this key. Nothing was changed.
	ErrMiss = errors.New("no such entry")
	// ErrExists: Add found an entry. Nothing was changed.
	ErrExists = errors.New("there is an entry already")
	// ErrChanged: the entry's CAS number is another one. Nothing was changed.
	ErrChanged = errors.New("the entry was changed by somebody else")
	// ErrTooLarge: the value does not fit into the server's largest entry (-I).
	// Refused unsent, unless the server's limit is unknown: see the package.
	ErrTooLarge = errors.New("the value is too large: raise memcached's -I, or store less")
	// ErrFull: the server has no memory for the entry. The value was not
	// stored, and the entry that was there may be gone.
	ErrFull = errors.New("memcached has no memory left: raise its -m, or add a node")
	// ErrKey: the key is empty or too long. Nothing was sent.
	ErrKey = errors.New("not a key")
	// ErrTTL: the time to live is not positive. Nothing was sent.
	ErrTTL = errors.New("the time to live must be positive")
	// ErrNoCAS: the CAS number is 0, which memcached takes for "no condition".
	// Nothing was sent.
	ErrNoCAS = errors.New("no CAS number: does memcached run with -C?")
	// ErrBusy: the server is at its connection limit, or too many calls are
	// waiting for this client's connections. Nothing was done.
	ErrBusy = errors.New("busy")
	// ErrAuth: the server wants another user or password. Nothing was done.
	ErrAuth = errors.New("not authenticated")
	// ErrUnavailable: there is no connection, or it was lost. Nothing was done,
	// unless the error is ErrUnknown too.
	ErrUnavailable = errors.New("not available")
	// ErrUnknown: a write was sent and not answered. It may have been carried
	// out, it may still be, or never.
	ErrUnknown = errors.New("outcome unknown: sent and not answered")
	// ErrProtocol: the server said something that this client does not expect.
	// The connection is closed.
	ErrProtocol = errors.New("unexpected answer")
	// ErrClosed: Close was called.
	ErrClosed = errors.New("the client is closed")
)

// lostError is what a call gets whose connection ended.
type lostError struct {
	sent  bool
	cause error
}

func (e *lostError) Error() string { return "connection lost: " + e.cause.Error() }
func (e *lostError) Unwrap() error { return e.cause }

// Is: a connection that is closed on purpose is not a node that is away.
func (e *lostError) Is(target error) bool {
	return target == ErrUnavailable && !errors.Is(e.cause, ErrClosed)
}

// unexpected describes a line without repeating what might be data.
func unexpected(line []byte) error {
	for _, known := range [...]string{"ERROR", "CLIENT_ERROR ", "SERVER_ERROR ", "VERSION ", "STORED", "MN", "END"} {
		if hasPrefix(line, known) {
			return fmt.Errorf("%w: %q", ErrProtocol, line[:min(len(line), maxErrorText)])
		}
	}
	if len(line) >= 2 && metaCode(line[:2]) != 0 && (len(line) == 2 || line[2] == ' ') {
		return fmt.Errorf("%w: %q", ErrProtocol, line[:2])
	}
	return fmt.Errorf("%w: a line of %d bytes that memcached never sends", ErrProtocol, len(line))
}
