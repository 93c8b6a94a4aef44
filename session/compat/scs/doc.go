// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package belayscs keeps an application on github.com/alexedwards/scs and puts
// Belay's stores under it: the SessionManager, its cookie, its verbs and its codec
// stay, the store becomes any session.Store.
//
//	store, err := belayscs.New(redis, nil)
//	sm := scs.New()
//	sm.Store = store
//	http.ListenAndServe(addr, store.Middleware(sm.LoadAndSave(mux)))
//
// scs knows three verbs, find, commit and delete, and its commit writes whatever
// was there before. Belay's stores have no such verb: what was deleted stays
// deleted. Middleware is what lets this package tell a new session from one that
// was logged out a moment ago.
//
// # With Middleware
//
// A log-out wins, without any limit in time: a request that found a session only
// ever updates it, and if it is gone the change is dropped (Hooks.Lost), without
// an error. The same holds for RenewToken: the old token stays dead. A session
// that expired meanwhile stays expired.
//
// Two requests that change different keys both keep their change: a commit that
// meets a newer record applies its own changes, key by key, to that. For one key
// the later commit wins.
//
// # Without Middleware
//
// Commits outside of it (a worker that calls SessionManager.Load and Commit
// itself; an application that left it away) know nothing of what was found. Then
//   - a log-out wins for Options.Tombstone after it, 1 h by default: a request
//     that was already under way and commits later than that brings the session
//     back, and so does one whose session expired while it ran;
//   - of two parallel writers the later replaces the whole session, as scs has
//     always done;
//   - each commit costs one read more.
//
// Store.Context gives such a worker what Middleware gives a request.
//
// # In both
//
// Stores see a hash of the token. A cookie that is no token of scs causes no
// store call. A commit does not end when the client goes away, and each call has
// a deadline. A request that changed nothing, under an idle timeout, moves the
// expiry and nothing else, and that only when a tenth of the timeout has passed.
//
// # What it never does
//
// It never lets the text that All returns as a token be used to log in. It cannot
// mend what scs does outside of its store: a failed commit is followed by the
// handler's body, a 1xx answer or a Flush comes before the cookie, an undecodable
// session is an error for as long as its cookie lives, and a record is loaded for
// each cookie whether or not anybody asks. It does not fence attempts that
// Belay's gateway gave up. The native API does all of that: docs/migrate-from-scs.md.
package belayscs
