// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package belay_test

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const notBuiltYet = "— not built yet"

// expected is how many promises of each kind there are: none is dropped unseen.
var expected = map[string]int{"": 5, "T": 43, "H": 45, "GW": 11, "AW": 15, "L": 6, "AH": 10, "SC": 7}

// Each row of docs/promises.md has a number of its own, a sentence, and tests
// that exist.
func TestPromises(t *testing.T) {
	src, err := os.ReadFile("docs/promises.md")
	if err != nil {
		t.Fatal(err)
	}
	wrong, count := readCode(t).checkPromises(string(src))
	for _, w := range wrong {
		t.Error(w)
	}
	if !maps.Equal(count, expected) {
		t.Errorf("promises of each kind: %v, want %v", count, expected)
	}
}

// So has each feature of docs/session-tests.md.
func TestSessionFeatures(t *testing.T) {
	src, err := os.ReadFile("docs/session-tests.md")
	if err != nil {
		t.Fatal(err)
	}
	c, features := readCode(t), 0
	for line := range strings.Lines(string(src)) {
		m := featureRow.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil || m[1] == "feature" || strings.HasPrefix(m[1], "---") {
			continue
		}
		features++
		names := mdCode.FindAllStringSubmatch(m[2], -1)
		if len(names) == 0 {
			t.Errorf("%s: no test", m[1])
		}
		for _, n := range names {
			if why := c.missingTest(n[1]); why != "" {
				t.Errorf("%s: %s", m[1], why)
			}
		}
	}
	if features < 80 {
		t.Errorf("%d features: is it the page?", features)
	}
}

var featureRow = regexp.MustCompile(`^\| (.+) \| (.+) \| +(?:seen )?\|$`)

var promiseRow = regexp.MustCompile(`^\| ([A-Z]*)(\d+) \| (.+) \| (.+) \|$`)

func (c *code) checkPromises(text string) (wrong []string, count map[string]int) {
	count = map[string]int{}
	seen := map[string]bool{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "| number |") || strings.HasPrefix(line, "|---") {
			continue
		}
		m := promiseRow.FindStringSubmatch(line)
		if m == nil || strings.Contains(m[3], " | ") {
			wrong = append(wrong, "not a row | number | promise | where it is kept |: "+line)
			continue
		}
		number, kept := m[1]+m[2], m[4]
		bad := func(format string, args ...any) { wrong = append(wrong, number+": "+fmt.Sprintf(format, args...)) }
		if seen[number] {
			bad("twice")
		}
		seen[number] = true
		count[m[1]]++
		names := mdCode.FindAllStringSubmatch(kept, -1)
		if strings.Contains(kept, notBuiltYet) || len(names) == 0 {
			if kept != notBuiltYet {
				bad("the last column is %q or tests in back quotes, not %q", notBuiltYet, kept)
			}
			continue
		}
		for _, n := range names {
			if why := c.missingTest(n[1]); why != "" {
				bad("%s", why)
			}
		}
	}
	return wrong, count
}

// missingTest takes TestX, folder.TestX or either with /subtest.
func (c *code) missingTest(name string) string {
	dir, test := "", name
	if i := strings.LastIndex(name, ".Test"); i >= 0 {
		dir, test = name[:i], name[i+1:]
	}
	parts := strings.Split(test, "/")
	dirs, ok := c.tests[parts[0]]
	switch {
	case !ok || !isTest.MatchString(parts[0]):
		return "there is no test " + test
	case dir != "" && !slices.Contains(dirs, dir):
		return fmt.Sprintf("%s is in %v, not in %s", test, dirs, dir)
	}
	for _, sub := range parts[1:] {
		if !c.literals[sub] {
			return fmt.Sprintf("no test code says %q, as in %s", sub, name)
		}
	}
	return ""
}

// The check above, on rows that are wrong on purpose.
func TestPromisesRules(t *testing.T) {
	t.Parallel()
	c := &code{
		tests:    map[string][]string{"TestShared": {"session"}},
		literals: map[string]bool{"T01_tokens_are_unique": true},
	}
	for _, tt := range []struct{ name, text, want string }{
		{"kept", "| T1 | s | `TestShared`, `session.TestShared/T01_tokens_are_unique` |", ""},
		{"not_built", "| T1 | s | — not built yet |", ""},
		{"no_such_test", "| T1 | s | `TestGone` |", "TestGone"},
		{"no_such_subtest", "| T1 | s | `TestShared/T02` |", "T02"},
		{"other_folder", "| T1 | s | `server.TestShared` |", "not in server"},
		{"nothing_said", "| T1 | s | soon |", "last column"},
		{"two_columns", "| T1 | s |", "not a row"},
		{"twice", "| T1 | s | `TestShared` |\n| T1 | s | `TestShared` |", "twice"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			wrong, _ := c.checkPromises(tt.text)
			expect(t, wrong, tt.want)
		})
	}
}
