// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"errors"
	"fmt"
	"net/http"
)

// Rule is what is special about the sessions of some requests. The zero value
// of each field changes nothing.
type Rule struct {
	// Pattern says which requests: a pattern of http.ServeMux, such as
	// "GET /static/". If several match, the most specific one holds, alone.
	Pattern string
	// Ignore: these requests have no session. Get returns an empty one, without
	// a store call, and changes of it fail with ErrIgnored.
	Ignore bool
	// ReadOnly: changes of the session fail with ErrReadOnly. Its idle limit is
	// still moved; see NoTouch.
	ReadOnly bool
	// NoTouch: these requests do not keep a session alive: a page that asks the
	// server something every minute must not make its idle limit void.
	NoTouch bool
	// Fresh: these requests ask the store, whatever the mode: for what must not
	// be done by somebody whose session has just been revoked.
	Fresh bool
	// Lock: a request takes the lease of its session before it reads it, and
	// keeps it until its end, so that of these requests one at a time runs for a
	// session, on whatever server. Others are not held up by it. It is for
	// requests whose effect is outside of the session; changes of the session
	// survive side by side without it. The store must be a Locker.
	Lock bool
	// WhenLocked says what happens if the lease is not free in time.
	WhenLocked LockPolicy
	// WhenDown says what Get does when the store cannot be asked.
	WhenDown FailPolicy
}

// FailPolicy says what Get does when the store cannot be asked.
type FailPolicy int

const (
	// Unavailable returns an error that wraps ErrUnavailable, which
	// Manager.Error answers with 503. The default.
	Unavailable FailPolicy = iota
	// Anonymous returns an empty session and no error: for pages that are worth
	// showing to a visitor who is not recognised. His cookie stays; changes of
	// the session fail.
	Anonymous
	// Stale returns the session as it was last seen here, if that was less than
	// Options.StaleFor ago, else it is Unavailable. Changes of it fail.
	Stale
)

// Errors of requests that a Rule concerns.
var (
	// ErrIgnored: a Rule says that these requests have no session.
	ErrIgnored = errors.New("session: a rule ignores the session of this request")
	// ErrReadOnly: a Rule says that these requests do not change the session.
	ErrReadOnly = errors.New("session: a rule makes this request read-only")
)

// rules finds the Rule of a request.
type rules struct {
	mux  *http.ServeMux // nil: there are none
	byID map[string]*Rule
	none Rule
}

func newRules(list []Rule) (r rules, err error) {
	if len(list) == 0 {
		return r, nil
	}
	// The mux panics at a pattern that it does not understand or that conflicts.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("session: Rules: %v", p)
		}
	}()
	r.mux, r.byID = http.NewServeMux(), make(map[string]*Rule)
	for _, rule := range list {
		r.mux.Handle(rule.Pattern, http.NotFoundHandler())
		r.byID[rule.Pattern] = &rule
	}
	return r, nil
}

func (r *rules) of(req *http.Request) *Rule {
	if r.mux == nil {
		return &r.none
	}
	_, pattern := r.mux.Handler(req)
	if rule := r.byID[pattern]; rule != nil {
		return rule
	}
	return &r.none
}
