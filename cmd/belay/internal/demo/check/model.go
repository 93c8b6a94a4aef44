// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/belay-ha/belay/cmd/belay/internal/demo/shop"
)

// Model is what one user may see: a step machine that is told of each of his
// requests and of each answer. It has no clock and does no I/O. It is not safe
// for concurrent use, though the requests it is told of may overlap.
//
// The rules for overlapping requests: no two of them change the same field, and
// a log-in is alone.
type Model struct {
	// Name is the user. Notes begin with it, so that another user's shows.
	Name string
	// Away reports whether a node was allowed to lose its users at some time
	// between two moments: dead, frozen, draining, or just back. nil: never.
	Away func(node string, from, to time.Time) bool

	user   string // who is logged in
	floor  int    // the newest version seen in an answer
	fields map[string]*field
	flight map[int]*flight
	next   int
	moved  bool

	home  []string // the nodes that may hold the user
	group []string // the nodes that answered since requests overlap
}

// field is one thing in the session: what it may be.
type field struct {
	values set
	busy   *Request // the change in flight
	added  bool     // by Add, since it was last set: one too many is a duplicate
	set    bool     // by any other change, ever
	late   bool     // a change of unknown outcome may land at any time
}

// flight is a request under way, and what its answer may show.
type flight struct {
	Request
	floor int
	seen  map[string]set // what fields may have been while it was under way
	home  []string
	alone bool // overlaps no other request
	loose bool // overlaps a log-out: it may see the session or not
}

// value is a number or a text.
type value struct {
	n int
	s string
}

func (v value) String() string {
	if v.s != "" {
		return fmt.Sprintf("%q", v.s)
	}
	return fmt.Sprint(v.n)
}

type set map[value]bool

func (s set) String() string {
	var all []string
	for v := range s {
		all = append(all, v.String())
	}
	slices.Sort(all)
	return strings.Join(all, " or ")
}

func (s set) with(o set) set {
	u := maps.Clone(s)
	maps.Copy(u, o)
	return u
}

// apply is what the values of its field become by a change.
func (r Request) apply(s set) set {
	out := set{}
	for v := range s {
		switch r.Op {
		case Add, Visit:
			out[value{n: v.n + 1}] = true
		case Put:
			out[value{n: r.Qty}] = true
		case Remove:
			out[value{}] = true
		case Note:
			out[value{s: r.Text}] = true
		}
	}
	return out
}

// field names what the request changes; empty: nothing.
func (r Request) field() string {
	switch r.Op {
	case Add, Put, Remove:
		return "cart/" + r.Item
	case Note:
		return "note"
	case Visit:
		return "visits"
	}
	return ""
}

// Moved reports whether the user was ever served by another node than before.
func (m *Model) Moved() bool { return m.moved }

// LoggedIn reports whether the user is logged in.
func (m *Model) LoggedIn() bool { return m.user != "" }

// Forget begins anew: the user has thrown his cookies away. Nothing may be in
// flight.
func (m *Model) Forget() {
	m.forgetSession()
	m.home, m.group = nil, nil
}

func (m *Model) forgetSession() {
	m.user, m.floor, m.fields = "", 0, nil
}

func (m *Model) field(name string) *field {
	f := m.fields[name]
	if f == nil {
		f = &field{values: set{value{}: true}}
		if m.fields == nil {
			m.fields = map[string]*field{}
		}
		m.fields[name] = f
	}
	return f
}

// may is what an answer that comes now may show of a field.
func (f *field) may() set {
	if f.busy != nil {
		return f.values.with(f.busy.apply(f.values))
	}
	return f.values
}

// Begin notes that a request is sent. End takes the ticket it returns.
func (m *Model) Begin(r Request) int {
	if name := r.field(); name != "" {
		f := m.field(name)
		if f.busy != nil {
			panic("check: two overlapping requests change " + name)
		}
		was := f.values
		f.busy = &r
		m.widen(name, was.with(f.may()))
	}
	if r.Op == Login && len(m.flight) > 0 {
		panic("check: a log-in overlaps another request")
	}
	fl := &flight{Request: r, floor: m.floor, seen: map[string]set{}, home: m.home, alone: len(m.flight) == 0}
	for name, f := range m.fields {
		fl.seen[name] = f.may()
	}
	for _, o := range m.flight {
		if r.Op == Logout {
			o.loose = true
		}
		fl.loose = fl.loose || o.Op == Logout
		o.alone = false
	}
	if m.flight == nil {
		m.flight = map[int]*flight{}
	}
	m.next++
	m.flight[m.next] = fl
	return m.next
}

// widen tells the requests under way that a field may have had these values.
func (m *Model) widen(name string, s set) {
	for _, fl := range m.flight {
		if was, ok := fl.seen[name]; ok {
			fl.seen[name] = was.with(s)
		} else {
			fl.seen[name] = s.with(set{value{}: true})
		}
	}
}

// End notes the answer to a request, and returns what was wrong with it.
func (m *Model) End(ticket int, a Answer) []Violation {
	fl := m.flight[ticket]
	delete(m.flight, ticket)
	e := ending{m: m, fl: fl, a: a}
	e.move()
	if a.Failed() {
		e.failed()
	} else {
		e.acknowledge()
		e.state()
	}
	if len(m.flight) == 0 {
		if len(m.group) > 0 {
			m.home = m.group
		}
		m.group = nil
	}
	return e.found
}

// ending is one answer being looked at.
type ending struct {
	m     *Model
	fl    *flight
	a     Answer
	found []Violation
}

func (e *ending) report(k Kind, want, got string) {
	e.found = append(e.found, Violation{
		Kind: k, At: e.a.At, User: e.m.Name, Request: e.fl.String(), Want: want, Got: got, Node: e.a.Node,
	})
}

// move decides whether the user may be where he is. Answers to overlapping
// requests may come from several nodes if one of them was away; then each of
// these is where the user may be next.
func (e *ending) move() {
	m, node := e.m, e.a.Node
	if node == "" {
		return
	}
	if home := e.fl.home; len(home) > 0 && !slices.Contains(home, node) && !slices.Contains(m.group, node) {
		m.moved = true
		away := func(n string) bool { return m.Away != nil && m.Away(n, e.fl.At, e.a.At) }
		if !slices.ContainsFunc(home, away) {
			e.report(MovedHealthy, "to stay on "+strings.Join(home, " or "), "an answer from "+node)
		}
	}
	if !slices.Contains(m.group, node) {
		m.group = append(m.group, node)
	}
}

func (e *ending) failed() {
	m, fl := e.m, e.fl
	switch {
	case fl.Op.Repeatable():
		e.report(Error, "an answer", e.a.why())
	case e.a.Unknown || e.a.Err != nil || e.a.Node != "":
		e.report(Unknown, "an answer", e.a.why())
	default:
		e.report(Error, "an answer, or to be told that the outcome is unknown", e.a.why())
	}
	if name := fl.field(); name != "" {
		f := m.field(name)
		f.values, f.busy, f.late = f.may(), nil, true
		f.added = f.added || fl.Op == Add
	}
}

// acknowledge makes a change that succeeded part of what must be seen.
func (e *ending) acknowledge() {
	m, fl := e.m, e.fl
	switch fl.Op {
	case Login:
		m.user = m.Name
	case Logout:
		m.forgetSession()
		for _, o := range m.flight {
			o.loose = true
		}
		return
	}
	name := fl.field()
	if name == "" || fl.loose {
		return
	}
	f := m.field(name)
	f.values, f.busy = fl.apply(f.values), nil
	fl.seen[name] = f.values
	switch fl.Op {
	case Add:
		f.added = true
	case Put, Remove, Note:
		f.added, f.late, f.set = false, false, true
	}
}

// state compares what the answer shows with what it may show.
func (e *ending) state() {
	m, fl, got := e.m, e.fl, e.a.State
	switch {
	case got.User != "" && got.User != m.Name, got.Note != "" && !strings.HasPrefix(got.Note, m.Name+":"):
		e.report(MixedUp, "user "+m.Name, fmt.Sprintf("user %q, note %q", got.User, got.Note))
		return
	case fl.Op == Logout:
		if got.User != "" {
			e.report(Lost, "to be logged out", "user "+got.User)
		}
		return
	case fl.loose:
		return
	case got.User != m.user && m.user != "":
		e.report(Lost, "to be logged in", "nobody logged in")
		m.forgetSession()
		return
	case got.User != m.user:
		e.report(Revived, "nobody logged in", "user "+got.User)
		return
	case got.Version < fl.floor:
		e.report(Stale, fmt.Sprintf("version %d or later", fl.floor), fmt.Sprintf("version %d", got.Version))
		return
	}
	m.floor = max(m.floor, got.Version)
	shown := fieldsOf(got)
	for _, name := range slices.Sorted(maps.Keys(shown)) {
		m.field(name)
	}
	for _, name := range slices.Sorted(maps.Keys(m.fields)) {
		e.compare(name, shown[name])
	}
}

func (e *ending) compare(name string, got value) {
	m := e.m
	f := m.fields[name]
	want, ok := e.fl.seen[name]
	if !ok {
		want = f.may()
	}
	if want[got] {
		if e.fl.alone {
			f.narrow(name, got)
		}
		return
	}
	most := 0
	for v := range want {
		most = max(most, v.n)
	}
	kind := Lost
	switch {
	case got.n > most && (f.added || name == "visits"):
		kind = Duplicated
	case got != value{} && len(want) == 1 && want[value{}] && !f.touched():
		kind = MixedUp // he never asked for that
	}
	e.report(kind, name+" = "+want.String(), got.String())
	if f.busy == nil {
		f.values, f.late = set{got: true}, false
	}
}

// touched reports whether the user ever changed the field in this session.
func (f *field) touched() bool { return f.added || f.late || f.set }

// narrow forgets what the field can no longer be. A change of unknown outcome
// may still land, so only what it would lead to stays possible.
func (f *field) narrow(name string, got value) {
	switch {
	case !f.late:
		f.values = set{got: true}
	case name == "visits":
		maps.DeleteFunc(f.values, func(v value, _ bool) bool { return v.n < got.n })
	}
}

func fieldsOf(st shop.State) map[string]value {
	out := map[string]value{}
	for item, n := range st.Cart {
		out["cart/"+item] = value{n: n}
	}
	if st.Note != "" {
		out["note"] = value{s: st.Note}
	}
	if st.Visits != 0 {
		out["visits"] = value{n: st.Visits}
	}
	return out
}
