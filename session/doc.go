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
// # What you will want to do
//
// Log in, once the password was right, and log out:
//
//	err = s.Renew(ctx, session.ForUser("42"))   // a new token; s.Owner() is "42" from now on
//	err = s.Destroy(ctx)
//
// Two factors: ForPending after the first (s.Pending() tells, s.Owner() does
// not), ForUser with AtLevel after the second. For what wants the password once
// more: if !s.FreshFor(10*time.Minute), ask for it, and Renew with ForUser again.
//
// A user's devices, one of them ended, all others, all:
//
//	for info, err := range m.Sessions(ctx, "42") { name, _ := Agent.Of(info); … }
//	n, err := m.Revoke(ctx, "42", session.Only(info.ID))
//	n, err := m.Revoke(ctx, "42", session.Except(s))
//	n, err := m.Revoke(ctx, "42")
//
// Values: a key is made once, with a name and a type.
//
//	Theme.Set(s, "dark"); v, ok := Theme.Get(s); Theme.Delete(s)
//	msg, ok := Flash.Pop(s)                                  // shown once
//	n := Hits.Update(s, func(n int) int { return n + 1 })    // no count is lost
//	var Cart = session.NewKey("cart", session.Merge(merge))  // two tabs fill it
//	if s.Once(r.Header.Get("Idempotency-Key")) { … }         // a request sent twice works once
//
// Set encodes at once; what is changed in place afterwards is seen with
// Options.DetectChanges. A value that cannot be decoded as its key's type is
// absent, and s.Err tells.
//
// A long answer, server-sent events, a WebSocket: set something before the first
// byte, so that the cookie goes out with the header, and call s.Save(ctx) after
// each change.
//
// Forms: m.CSRF(mux), or http.CrossOriginProtection, or both; s.CSRFToken() is
// the token. APIs: Options.Header is the field in which the token travels both ways.
//
// Single routes: a Rule in Options.Rules. Ignore: no session. ReadOnly. NoTouch:
// it does not keep the session alive. Fresh: not from a cache. Lock: one at a time.
// WhenDown: what to show while the store is away.
//
// Limits: Options.Idle and Lifetime, or AAL1, AAL2, AAL3; Cookie.Persistent for
// "remember me"; MaxPerUser. What happens, in metrics and logs: Options.Hooks and
// Logger; packages prom and otel.
//
// Over plain http on your own machine: Cookie{Insecure: true}. Testing your
// handlers: memstore.New, and the cookie of one answer in the next request; see
// the examples.
//
// # What can go wrong
//
// Get returns an error if the store cannot be asked; give it to m.Error, which
// answers 503, or 500, or 403 if the user has too many sessions. A session after
// an error reads as empty, and a request that changes it fails. A commit that
// fails is answered the same way by itself. Errors are told apart by errors.Is
// with the sentinels of this package. docs/bad-input.md lists what becomes of
// everything that should not be there.
//
// # Modes
//
// By default (Shared) each request that uses the session reads the store once.
// Coherent keeps a cache in front, Sticky holds the sessions of the clients that
// the balancer sends here; docs/modes.md has the table of what each costs and
// gives up. In every mode a user who sends one request after another sees what
// he did before.
//
//	&session.Options{Mode: session.Coherent, Cache: cache}                    // near.New makes one
//	&session.Options{Mode: session.Sticky, Route: "app1"}                     // the balancer's name for this server
//	&session.Options{Mode: session.Sticky, Route: "app1", Backup: session.Async}
//
// With Options.Carrier (sealed.NewCookies) sessions live in the cookie; what a
// Key says is OnServer does not.
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
