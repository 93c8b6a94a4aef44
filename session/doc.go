// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package session keeps people logged in while servers die: HTTP sessions for
// net/http on a store that all servers share.
//
// To use it, make a store, put one Manager around the mux, and read and change
// sessions through typed keys:
//
//	var UserID = session.NewKey[int64]("uid")
//
//	m, err := session.New(store, nil)
//	go m.Run(ctx)
//	http.ListenAndServe(addr, m.Handler(mux))
//
//	func profile(w http.ResponseWriter, r *http.Request) {
//		s, err := m.Get(r.Context())
//		if err != nil {
//			m.Error(w, r, err)
//			return
//		}
//		uid, ok := UserID.Get(s)
//		…
//	}
//
// # What it promises
//
// A request that does not call Get costs no store call. A request that changes
// nothing writes nothing (but moves the idle limit now and then). What a request
// changes is written once, before the first byte of its answer: if that fails,
// the client gets one clean error and nothing of the handler's answer. Requests
// that run in parallel and change different keys never lose each other's
// change; for one key, see Merge and Key.Update. A session that was destroyed is
// never written again, whatever was under way.
//
// An empty session is never stored and sets no cookie. The store sees a hash of
// the token, never the token.
//
// # Modes
//
// By default (Shared) each request that uses the session reads the store once.
// Coherent keeps a cache in front, Sticky holds the sessions of the clients that
// the balancer sends here; docs/modes.md has the table of what each costs and
// gives up. In every mode a user who sends one request after another sees what
// he did before.
//
// # Behind a gateway
//
// A process that was frozen, and wakes up after its requests were sent to
// another server, must not finish them. Belay's gateway puts a deadline on each
// attempt; Handler refuses a request that is past it, and a commit too. It
// answers the gateway's probes itself, so it should be the outermost handler.
//
// # What it never does
//
// It never adopts an id that a client chose, never accepts one from a URL or a
// form, and never logs one. It opens no connection: that is the store's business.
package session
