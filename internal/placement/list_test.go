// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package placement_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belay-ha/belay/internal/placement"
)

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	const member = `{"id":"a","addr":"h:1"}`
	gen := func(fields string) string { return `{"version":1,"generations":[{` + fields + `}]}` }
	many := func(n int) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf(`{"id":"m%d","addr":"h:%d"}`, i, i))
		}
		return strings.Join(list, ",")
	}
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", ``, "EOF"},
		{"no_version", `{"generations":[]}`, "version"},
		{"no_generation", `{"version":1,"generations":[]}`, "0 generations"},
		{"unknown_field", gen(`"epoch":0,"colour":"red"`), "colour"},
		{"something_after", gen(`"epoch":0,"state":"open","hash":"rendezvous-v1","members":[`+member+`]`) + "x", "after the list"},
		{"unknown_state", gen(`"epoch":0,"state":"ajar","hash":"rendezvous-v1","members":[` + member + `]`), `"ajar"`},
		{"unknown_hash", gen(`"epoch":0,"state":"open","hash":"ketama","members":[` + member + `]`), `"ketama"`},
		{"no_members", gen(`"epoch":0,"state":"open","hash":"rendezvous-v1","members":[]`), "0 members"},
		{"member_twice", gen(`"epoch":0,"state":"open","hash":"rendezvous-v1","members":[` + member + `,` + member + `]`), `"a"`},
		{"address_twice", gen(`"epoch":0,"state":"open","hash":"rendezvous-v1","members":[` + member + `,{"id":"b","addr":"h:1"}]`), `"b"`},
		{"no_address", gen(`"epoch":0,"state":"open","hash":"rendezvous-v1","members":[{"id":"a","addr":""}]`), "address"},
		{"no_member_id", gen(`"epoch":0,"state":"open","hash":"rendezvous-v1","members":[{"addr":"h:1"}]`), "member id"},
		{"an_id_twice", gen(`"epoch":0,"state":"open","hash":"rendezvous-v1","members":[` + member + `,{"id":"a","addr":"h:2"}]`), "member id"},
		{"a_long_id", gen(`"epoch":0,"state":"open","hash":"rendezvous-v1","members":[{"id":"` + strings.Repeat("i", 1025) + `","addr":"h:1"}]`), "member id"},
		{"a_long_address", gen(`"epoch":0,"state":"open","hash":"rendezvous-v1","members":[{"id":"a","addr":"` + strings.Repeat("h", 1025) + `"}]`), "address"},
		{"too_many_members", gen(`"epoch":0,"state":"open","hash":"rendezvous-v1","members":[` + many(257) + `]`), "257 members"},
		{"a_large_weight", gen(`"epoch":0,"state":"open","hash":"rendezvous-v1","members":[{"id":"a","addr":"h:1","weight":1001}]`), "weight"},
		{"weight", gen(`"epoch":0,"state":"open","hash":"rendezvous-v1","members":[{"id":"a","addr":"h:1","weight":-1}]`), "weight"},
		{"share", gen(`"epoch":0,"state":"open","share":5000,"hash":"rendezvous-v1","members":[` + member + `]`), "share"},
		{"epoch_too_large", gen(`"epoch":256`), "256"},
		{
			"a_gap", `{"version":1,"generations":[{"epoch":0,"state":"open","hash":"rendezvous-v1","members":[` + member +
				`]},{"epoch":2,"state":"open","hash":"rendezvous-v1","members":[` + member + `]}]}`, "go up by one",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := placement.Parse([]byte(tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

// Whatever is done to a list by its own methods may follow it, survives
// encoding, and moves nothing.
func TestChangesFollow(t *testing.T) {
	t.Parallel()
	probe := hashes(200, 9)
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 0))
		l := list(t, "a", "b", "c")
		for step := range 30 {
			var next *placement.List
			var err error
			epoch := byte(rng.IntN(len(l.Generations)))
			switch rng.IntN(5) {
			case 0:
				next, _, err = l.Append(members("a", "b", "c", string(rune('d'+step%20)))...)
			case 1:
				next, err = l.Open(epoch, rng.IntN(4))
			case 2:
				next, err = l.Drain(epoch)
			case 3:
				next, err = l.Close(epoch)
			case 4:
				next, err = l.Replace("a", "elsewhere:"+string(rune('a'+step%20)))
			}
			if err != nil {
				continue // it says why
			}
			if err := l.Follows(next); err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, step, err)
			}
			if err := next.Follows(l); err == nil {
				t.Fatalf("seed %d, step %d: the older list may follow the newer one", seed, step)
			}
			again, err := placement.Parse(next.Encode())
			if err != nil || string(again.Encode()) != string(next.Encode()) {
				t.Fatalf("seed %d, step %d: encoding changes it: %v", seed, step, err)
			}
			for i := range l.Generations {
				e := l.Generations[i].Epoch
				for _, h := range probe[:20] {
					x, y := l.Find(e).Order(nil, h), again.Find(e).Order(nil, h)
					if x[0] != y[0] || x[1] != y[1] {
						t.Fatalf("seed %d, step %d: a session moved from %v to %v", seed, step, x, y)
					}
				}
			}
			l = next
		}
	}
}

func TestFollowsRefuses(t *testing.T) {
	t.Parallel()
	old := list(t, "a", "b")
	closed, _ := old.Drain(0)
	closed, err := closed.Close(0)
	if err != nil {
		t.Fatal(err)
	}
	parse := func(change func(string) string) *placement.List {
		t.Helper()
		next, err := old.Drain(0) // one version later
		if err != nil {
			t.Fatal(err)
		}
		l, err := placement.Parse([]byte(change(string(next.Encode()))))
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	replace := func(a, b string) *placement.List {
		return parse(func(s string) string { return strings.Replace(s, a, b, 1) })
	}
	for _, tt := range []struct {
		name      string
		old, next *placement.List
		want      string
	}{
		{"the_same_version", old, old, "not newer"},
		{"a_member_renamed", old, replace(`"id": "a"`, `"id": "z"`), "members"},
		{"a_weight_changed", old, replace(`"addr": "a:11211"`, `"addr": "a:11211", "weight": 3`), "members"},
		{"the_epoch_missing", old, replace(`"epoch": 0`, `"epoch": 1`), "missing"},
		{"reopened", closed, mustAfter(t, closed, old), "closed"},
		{"another_hash", old, &placement.List{Version: 9, Generations: []placement.Generation{
			{State: placement.Open, Hash: "rendezvous-v2", Members: members("a", "b")},
		}}, "hash"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if err := tt.old.Follows(tt.next); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
	if err := old.Follows(replace(`"addr": "a:11211"`, `"addr": "new:11211", "weight": 1`)); err != nil {
		t.Errorf("a new address, and a weight that only says the default: %v", err)
	}
	if later, _, err := closed.Append(members("c")...); err != nil || closed.Follows(later) != nil {
		t.Errorf("after a list with a closed generation: %v, %v", err, closed.Follows(later))
	}
}

// A node that is replaced keeps its sessions: only where it is found changes, in
// every generation that has it.
func TestReplaceChangesAnAddressAndNothingElse(t *testing.T) {
	t.Parallel()
	old := list(t, "a", "b")
	old, _, err := old.Append(members("b", "c")...)
	if err != nil {
		t.Fatal(err)
	}
	next, err := old.Replace("b", "new:11211")
	if err != nil {
		t.Fatal(err)
	}
	want := [][]string{{"a:11211", "new:11211"}, {"new:11211", "c:11211"}}
	for i, g := range next.Generations {
		for j, m := range g.Members {
			if m.Addr != want[i][j] || m.ID != old.Generations[i].Members[j].ID {
				t.Errorf("generation %d has %v, want %v", i, g.Members, want[i])
			}
		}
	}
	if err := old.Follows(next); err != nil {
		t.Error(err)
	}
	if old.Find(0).Members[1].Addr != "b:11211" {
		t.Error("the old list was changed")
	}
}

// A list never changes: what it was made from may.
func TestListKeepsNothingOfItsCaller(t *testing.T) {
	t.Parallel()
	mine := members("a", "b")
	l, err := placement.New(mine...)
	if err != nil {
		t.Fatal(err)
	}
	more := members("c", "d")
	l2, _, err := l.Append(more...)
	if err != nil {
		t.Fatal(err)
	}
	mine[0].Addr, more[0].Addr = "x", "y"
	if l.Find(0).Members[0].Addr != "a:11211" || l2.Find(0).Members[0].Addr != "a:11211" || l2.Find(1).Members[0].Addr != "c:11211" {
		t.Errorf("lists that change with their callers' members: %s %s", l.Encode(), l2.Encode())
	}
}

// mustAfter is l with a version after that of other.
func mustAfter(t *testing.T, other, l *placement.List) *placement.List {
	t.Helper()
	for l.Version <= other.Version {
		var err error
		if l, err = l.Open(0, 0); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func TestChangesRefuse(t *testing.T) {
	t.Parallel()
	l := list(t, "a")
	drained, _ := l.Drain(0)
	closed, _ := drained.Close(0)
	for name, err := range map[string]error{
		"close what is open":        second(l.Close(0)),
		"open what is closed":       second(closed.Open(0, 0)),
		"drain what is closed":      second(closed.Drain(0)),
		"open what is not there":    second(l.Open(9, 0)),
		"replace who is not there":  second(l.Replace("z", "h:1")),
		"append nobody":             third(l.Append()),
		"replace by nothing":        second(l.Replace("a", "")),
		"append somebody twice":     third(l.Append(members("a", "a")...)),
		"open with a share below 0": second(l.Open(0, -1)),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for range 255 {
		var err error
		if l, _, err = l.Append(members("a")...); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := l.Append(members("a")...); err == nil || !strings.Contains(err.Error(), "255") {
		t.Errorf("generation 256: got %v, want an error that says 255 was the last", err)
	}
}

func second[T any](_ T, err error) error        { return err }
func third[T, U any](_ T, _ U, err error) error { return err }

func TestFileTakesOnlyWhatFollows(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "placement.json")
	if _, err := placement.ReadFile(path); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("no file: %v", err)
	}
	l := list(t, "a", "b")
	if err := placement.WriteFile(path, l); err != nil {
		t.Fatal(err)
	}
	if err := placement.WriteFile(path, l); err == nil {
		t.Error("the same version was written again")
	}
	next, _, _ := l.Append(members("c")...)
	if err := placement.WriteFile(path, next); err != nil {
		t.Fatal(err)
	}
	got, err := placement.ReadFile(path)
	if err != nil || string(got.Encode()) != string(next.Encode()) {
		t.Errorf("read %v, %v", got, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 { // other processes read it, as other users
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := placement.WriteFile(filepath.Join(filepath.Dir(path), "nowhere", "list"), l); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("where there is no directory: %v, want an error that names it", err)
	}
	if names, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".placement*")); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := placement.WriteFile(path, next); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("over a damaged file: %v, want an error that names it", err)
	}
}

func FuzzParse(f *testing.F) {
	l, err := placement.New(members("a", "b")...)
	if err != nil {
		f.Fatal(err)
	}
	more, _, err := l.Append(members("c")...)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(l.Encode())
	f.Add(more.Encode())
	f.Add([]byte(`{"version":1,"generations":[{}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := placement.Parse(text)
		if err != nil {
			return
		}
		again, err := placement.Parse(l.Encode())
		if err != nil || string(again.Encode()) != string(l.Encode()) {
			t.Errorf("what was read cannot be written and read again: %v", err)
		}
		for i := range l.Generations {
			if n := len(l.Generations[i].Order(nil, [20]byte{1})); n != len(l.Generations[i].Members) {
				t.Errorf("an order of %d of %d members", n, len(l.Generations[i].Members))
			}
		}
	})
}
