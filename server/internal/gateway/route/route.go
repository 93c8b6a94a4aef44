// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package route

import (
	"cmp"
	"slices"
	"strings"
)

// Pattern says which requests a route is for.
type Pattern struct {
	Host string // a name, or *.name for all names below it; empty: any
	Path string // beginning of the path, in whole segments; empty or /: any
}

// String writes the pattern as it is named in log and metrics: *.example.com/api.
func (p Pattern) String() string {
	return cmp.Or(p.Host, "*") + cmp.Or(p.Path, "/")
}

// Table finds routes. The zero value has none.
type Table struct {
	exact map[string][]path // by host
	below map[string][]path // by the host without *.
	any   []path
}

// path is the beginning of a path, without a slash at its end, and the number of its route.
type path struct {
	prefix string
	route  int
}

// New makes a table of patterns; the number of a route is its place in the list.
// Of two patterns that are the same the first counts.
func New(list []Pattern) *Table {
	t := &Table{exact: make(map[string][]path), below: make(map[string][]path)}
	for i, p := range list {
		entry := path{strings.TrimSuffix(p.Path, "/"), i}
		host := strings.ToLower(strings.Trim(p.Host, "[]"))
		if name, wild := strings.CutPrefix(host, "*."); wild {
			t.below[name] = append(t.below[name], entry)
		} else if host != "" {
			t.exact[host] = append(t.exact[host], entry)
		} else {
			t.any = append(t.any, entry)
		}
	}
	for _, paths := range t.exact {
		longestFirst(paths)
	}
	for _, paths := range t.below {
		longestFirst(paths)
	}
	longestFirst(t.any)
	return t
}

func longestFirst(paths []path) {
	slices.SortStableFunc(paths, func(a, b path) int { return cmp.Compare(len(b.prefix), len(a.prefix)) })
}

// Find returns the route for a Host header, with or without port, and a decoded
// path. A host that has routes of its own, none of which is for the path, is
// looked up among the wider patterns.
func (t *Table) Find(host, target string) (int, bool) {
	if len(t.exact) > 0 || len(t.below) > 0 {
		host = bare(host)
		if i, ok := find(t.exact[host], target); ok {
			return i, true
		}
		for name := host; ; {
			_, rest, more := strings.Cut(name, ".")
			if !more {
				break
			}
			if i, ok := find(t.below[rest], target); ok {
				return i, true
			}
			name = rest
		}
	}
	return find(t.any, target)
}

func find(paths []path, target string) (int, bool) {
	for _, p := range paths {
		if strings.HasPrefix(target, p.prefix) && (len(target) == len(p.prefix) || p.prefix == "" || target[len(p.prefix)] == '/') {
			return p.route, true
		}
	}
	return 0, false
}

// bare is a host in lower case, without port, brackets and final dot.
func bare(host string) string {
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		host = host[:i]
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
}
