// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package sealed encrypts what a store keeps: whoever reads the store, its
// disks or its backups sees no attribute's value, and whoever writes to it cannot
// change a session, mix two, or make one up.
//
//	store, err := sealed.New(inner, [][]byte{key}, nil)
//	m, err := session.New(store, nil)
//
// Each value is sealed by itself with XChaCha20-Poly1305, bound to its session
// and its name, and each record carries a seal over everything in it but the
// expiry, which a touch moves. A record that does not agree with its seal is
// session.ErrCorrupt: absent.
//
// In the clear stay: the hash that names the session, revision, owner, times,
// and the names and lengths of attributes. Owners are what an index of them needs.
//
// NewCookies seals whole sessions instead, for clients to carry in the cookie
// itself: docs/stores/sealed-cookies.md says what that gives up, in numbers.
//
//	carrier, err := sealed.NewCookies([][]byte{key}, nil)
//	m, err := session.New(store, &session.Options{Carrier: carrier}) // store may be nil
//
// It never returns a value that it has not verified, unless Options.AcceptPlain
// says so. It cannot tell that somebody put back a whole record as it once was,
// with its old revision: see docs/stores/sealed.md.
package sealed
