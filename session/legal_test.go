// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
	"github.com/belay-ha/belay/session/near"
)

// sealedNothing is a Carrier for New alone.
type sealedNothing struct{}

func (sealedNothing) Seal(string, session.ID, *session.Carried) (string, error) { return "", nil }
func (sealedNothing) MaxSize() int                                              { return 4096 }

func (sealedNothing) Open(string, session.ID, string) (*session.Carried, error) {
	return nil, session.ErrCorrupt
}

// switches are the options of which docs/modes.md says where each may be.
var switches = []struct {
	word string
	on   func(*session.Options)
}{
	{"Cache", func(o *session.Options) { o.Cache, _ = near.New(nil) }},
	{"Route", func(o *session.Options) { o.Route = "a" }},
	{"Interval", func(o *session.Options) { o.Interval = time.Second }},
	{"LateCommits", func(o *session.Options) { o.LateCommits = true }},
	{"Stale", func(o *session.Options) { o.Rules = []session.Rule{{Pattern: "/", WhenDown: session.Stale}} }},
	{"Carrier", func(o *session.Options) { o.Carrier = sealedNothing{} }},
	{"WholeSession", func(o *session.Options) { o.Granularity = session.WholeSession }},
	{"RefuseOlder", func(o *session.Options) { o.OnRollback = session.RefuseOlder }},
}

// legalRow is a line of the table: by word what a combination must and may not have.
type legalRow struct {
	mode, backup   string
	needs, refuses map[string]bool
}

func legalRows(t *testing.T) (rows []legalRow) {
	t.Helper()
	page, err := os.ReadFile("../docs/modes.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(page), "| Mode | Backup | needs | refuses |\n")
	if !ok {
		t.Fatal("docs/modes.md has no table of legal combinations")
	}
	words := func(cell string) map[string]bool {
		m := map[string]bool{}
		for _, w := range strings.FieldsFunc(cell, func(r rune) bool { return strings.ContainsRune(" ,;:.`()[]", r) }) {
			m[w] = true
		}
		return m
	}
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 4 {
			break
		}
		if !strings.HasPrefix(cells[0], "--") {
			rows = append(rows, legalRow{strings.TrimSpace(cells[0]), strings.TrimSpace(cells[1]), words(cells[2]), words(cells[3])})
		}
	}
	return rows
}

// Every combination is accepted if a line of the table allows it, and refused
// otherwise.
func TestLegalCombinations(t *testing.T) {
	t.Parallel()
	rows := legalRows(t)
	store, err := memstore.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	modes := map[string]session.Mode{"Shared": session.Shared, "Coherent": session.Coherent, "Sticky": session.Sticky}
	backups := map[string]session.Backup{"Sync": session.Sync, "Async": session.Async, "Interval": session.Interval}
	accepted := 0
	for mode, m := range modes {
		for backup, b := range backups {
			for set := range 1 << len(switches) {
				o := session.Options{Mode: m, Backup: b}
				var names []string
				for i, sw := range switches {
					if set&(1<<i) != 0 {
						sw.on(&o)
						names = append(names, sw.word)
					}
				}
				legal := false
				for _, r := range rows {
					fits := r.mode == mode && r.backup == backup
					for i, sw := range switches {
						has := set&(1<<i) != 0
						fits = fits && (has || !r.needs[sw.word]) && (!has || !r.refuses[sw.word])
					}
					legal = legal || fits
				}
				_, err := session.New(store, &o)
				if (err == nil) != legal {
					t.Errorf("%s, %s, %v: the table says %v, New says %v", mode, backup, names, legal, err)
				}
				if err == nil {
					accepted++
				}
			}
		}
	}
	if len(rows) < 6 || accepted < 10 {
		t.Errorf("%d rows, %d accepted: the table was not read", len(rows), accepted)
	}
}

// storeOnly hides what else a store can do.
type storeOnly struct{ session.Store }

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	mem, err := memstore.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	rule := func(r session.Rule) session.Options {
		if r.Pattern == "" {
			r.Pattern = "/"
		}
		return session.Options{Rules: []session.Rule{r}}
	}
	carrier := sealedNothing{}
	cookie := func(c session.Cookie) session.Options { return session.Options{Cookie: c} }
	key := []byte("0123456789abcdef")
	// By a part of what New says: that it refuses for this reason.
	for says, o := range map[string]session.Options{
		"leave Keys away":            {Carrier: carrier, Keys: [][]byte{key}},
		"leave RotateEvery away":     {Carrier: carrier, RotateEvery: time.Hour},
		"can be listed":              {Carrier: carrier, MaxPerUser: 1},
		"good for ever":              {Carrier: carrier, Lifetime: -1},
		"forbids Domain":             cookie(session.Cookie{Name: "__Host-x", Domain: "example.com"}),
		"needs Path":                 cookie(session.Cookie{Name: "__Host-x", Path: "/a"}),
		"__Host- needs Secure":       cookie(session.Cookie{Name: "__Host-x", Insecure: true}),
		"__Secure- needs Secure":     cookie(session.Cookie{Name: "__Secure-x", Insecure: true}),
		"SameSite=None needs":        cookie(session.Cookie{SameSite: http.SameSiteNoneMode, Insecure: true}),
		"Partitioned needs":          cookie(session.Cookie{Partitioned: true, Insecure: true}),
		"invalid Cookie.Name":        cookie(session.Cookie{Name: "a b"}),
		"more than 256":              cookie(session.Cookie{Name: strings.Repeat("x", 257)}),
		"no cookie is used":          {Header: "X-S", Cookie: session.Cookie{Insecure: true}},
		"cannot carry a token":       {Header: "Authorization"},
		"fewer than 16":              {Keys: [][]byte{key[1:]}},
		"Rules: ":                    {Rules: []session.Rule{{Pattern: "/a"}, {Pattern: "/a"}}},
		"is ignored":                 rule(session.Rule{Ignore: true, ReadOnly: true}),
		"set Lock":                   rule(session.Rule{WhenLocked: session.GoReadOnly}),
		"WhenLocked 9":               rule(session.Rule{Lock: true, WhenLocked: 9}),
		"WhenDown 9":                 rule(session.Rule{WhenDown: 9}),
		"set MaxPerUser":             {WhenTooMany: session.RejectNew},
		"WhenTooMany 9":              {WhenTooMany: 9, MaxPerUser: 1},
		"MaxPerUser cannot":          {MaxPerUser: -1},
		"OnRollback 9":               {OnRollback: 9},
		"Mode 9":                     {Mode: 9},
		"Backup 9":                   {Mode: session.Sticky, Route: "a", Backup: 9},
		"Granularity 9":              {Granularity: 9},
		"Route of 1 to 32":           {Mode: session.Sticky, Route: "a b"},
		"at least 1 s":               {Idle: time.Millisecond},
		"at least 1 s, not 2ms":      {Lifetime: 2 * time.Millisecond},
		"LockTTL must":               {LockTTL: time.Millisecond},
		"OnceKeys must":              {OnceKeys: 1025},
		"1 to 1024, not -1":          {OnceKeys: -1},
		"Timeout and CommitTimeout":  {Timeout: -1},
		"hang a request":             {CommitTimeout: -1},
		"MaxStale and StaleFor":      {MaxStale: -1},
		"StaleFor cannot":            {StaleFor: -1},
		"LockWait cannot":            {LockWait: -1},
		"RotateEvery cannot":         {RotateEvery: -1},
		"MaxHeld, MaxBehind":         {MaxHeld: -1},
		"MaxBehind and FlushTimeout": {MaxBehind: -1},
		"FlushTimeout cannot":        {FlushTimeout: -1},
	} {
		if _, err := session.New(mem, &o); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", says, err)
		}
	}
	for says, o := range map[string]session.Options{
		"index of owners":   {MaxPerUser: 1},
		"store with leases": rule(session.Rule{Lock: true}),
	} {
		if _, err := session.New(storeOnly{mem}, &o); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", says, err)
		}
	}
	if _, err := session.New(nil, nil); err == nil || !strings.Contains(err.Error(), "needs a store") {
		t.Errorf("no store: %v", err)
	}
	// All mistakes at once.
	_, err = session.New(mem, &session.Options{Idle: 1, Mode: 9, Cookie: session.Cookie{Name: "a b"}})
	for _, says := range []string{"Mode 9", "at least 1 s", "invalid Cookie.Name"} {
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("of several mistakes %q is not told: %v", says, err)
		}
	}
}
