// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"bytes"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// Check says how a server is asked, and which answers pass. The zero value with
// a Path asks with GET and lets 200 to 399 pass.
type Check struct {
	TCP    bool // a connection that opens passes; nothing is asked
	Method string
	Path   string
	Host   string   // empty: the address of the server
	Header []string // names and values in turn
	Expect Expect
	// NoLB are statuses of a server that wants no new users and keeps those it
	// has. They pass.
	NoLB Statuses
}

// Expect says which answers pass. Everything that is set has to be true.
type Expect struct {
	Status      Statuses       // empty: 200 to 399
	Body        string         // the body contains it
	Match       *regexp.Regexp // the body matches it
	Header      string         // there is such a field
	HeaderValue string         // and it has this value; empty: any
}

// Question returns what to ask.
func (c *Check) Question() Question {
	return Question{
		Method: c.Method, Path: c.Path, Host: c.Host, Header: c.Header,
		Body: c.Expect.Body != "" || c.Expect.Match != nil,
	}
}

// Passes returns nil if an answer passes, and whether the server wants no new users.
func (c *Check) Passes(r Reply) (nolb bool, err error) {
	if c.NoLB.Has(r.Status) {
		return true, nil
	}
	want := c.Expect.Status
	if len(want) == 0 {
		want = passing
	}
	e := &c.Expect
	switch values := r.Header.Values(e.Header); {
	case !want.Has(r.Status):
		return false, StatusError{r.Status, want}
	case e.Body != "" && !bytes.Contains(r.Body, []byte(e.Body)):
		return false, fmt.Errorf("health: the check was answered without %q in its body", e.Body)
	case e.Match != nil && !e.Match.Match(r.Body):
		return false, fmt.Errorf("health: the body of the check's answer does not match %q", e.Match)
	case e.Header != "" && len(values) == 0:
		return false, fmt.Errorf("health: the check was answered without the header %s", e.Header)
	case e.Header != "" && e.HeaderValue != "" && strings.Join(values, ", ") != e.HeaderValue:
		return false, fmt.Errorf("health: the check was answered with another value than %q in %s", e.HeaderValue, e.Header)
	}
	return false, nil
}

// String describes the whole check: two with the same text ask and judge alike.
func (c *Check) String() string {
	if c.TCP {
		return "tcp"
	}
	return fmt.Sprintf("%q %q %q %q %v %q %q %q %q %v", c.Method, c.Path, c.Host, c.Header,
		c.Expect.Status, c.Expect.Body, fmt.Sprint(c.Expect.Match), c.Expect.Header, c.Expect.HeaderValue, c.NoLB)
}

// StatusError is the answer of a server that says itself that it is not well.
type StatusError struct {
	Status int
	Want   Statuses
}

func (e StatusError) Error() string {
	return fmt.Sprintf("health: the check was answered with status %d; %v would pass", e.Status, e.Want)
}

// Is makes two errors with the same status the same.
func (e StatusError) Is(target error) bool {
	other, ok := target.(StatusError)
	return ok && other.Status == e.Status
}

// Statuses is a set of HTTP statuses.
type Statuses []StatusRange

// StatusRange is from its first to its last status, both included.
type StatusRange struct{ From, To int }

var passing = Statuses{{http.StatusOK, 399}}

// Has reports whether a status is in the set.
func (s Statuses) Has(status int) bool {
	for _, r := range s {
		if status >= r.From && status <= r.To {
			return true
		}
	}
	return false
}

func (s Statuses) String() string {
	parts := make([]string, len(s))
	for i, r := range s {
		parts[i] = strconv.Itoa(r.From)
		if r.To != r.From {
			parts[i] += "-" + strconv.Itoa(r.To)
		}
	}
	return strings.Join(parts, ",")
}

// ParseStatuses reads a list like 200,204,300-399.
func ParseStatuses(s string) (Statuses, error) {
	var list Statuses
	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			to = from
		}
		a, err1 := strconv.Atoi(from)
		b, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil || a < 100 || b > 599 || b < a {
			return nil, fmt.Errorf("health: %q is no status; write 200, or 200-299, or several with commas", part)
		}
		list = append(list, StatusRange{a, b})
	}
	return list, nil
}
