// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package gorilla keeps an application on github.com/gorilla/sessions and puts
// Belay's stores under it: Get, Values, flashes and Save stay, the values lie in
// any session.Store instead of a cookie or a file.
//
//	store, err := gorilla.New(redis, nil)
//	s, err := store.Get(r, "shop")
//	s.Values["user"] = "jane"
//	err = s.Save(r, w)
//
// For gin-contrib/sessions there is the package ginstore beside this one.
//
// # What it promises
//
// The cookie holds 160 random bits and nothing else, so there are no keys to
// keep; the store sees a hash of them. A client's own idea of an id is never
// adopted: what is not found is a new session, and gets a new id at its Save.
//
// A session that was loaded is only ever updated. If it was logged out, or
// expired, between Get and Save, the changes are dropped (Hooks.Lost), without an
// error and without a cookie: a late save does not undo a log-out. MaxAge < 0
// deletes at Save, and empties Values.
//
// Two requests that change different keys of Values both keep their change: a
// Save that meets a newer record applies its own changes, key by key, to that.
// For one key the later Save wins. A Save that changes nothing moves the expiry
// and nothing else. A new session without values is not stored and sets no cookie.
//
// Cookies are HttpOnly, Secure and SameSite=Lax unless Options say otherwise.
//
// Renew gives a session a new id at its next Save, which gorilla/sessions has no
// way to say: call it at log-in.
//
// # When the store is away
//
// Get returns an empty session with an error that wraps session.ErrUnavailable,
// and Save of that session fails with the same error: an application that ignores
// the first does not replace the user's session by an empty one. A record that is
// damaged, or that the Codec cannot decode, is a new session and no error (hooks
// Corrupt and Undecodable).
//
// # What it never does
//
// It never saves by itself: what is not saved is lost, as with every store of
// gorilla/sessions, and a Save after the body has begun sends no cookie. It does
// not fence attempts that Belay's gateway gave up. The native API does both:
// docs/migrate-from-gorilla.md.
package gorilla
