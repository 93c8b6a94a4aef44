// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// HeaderRules change a head: fields are taken off, then put in place of others,
// then added. Names are canonical.
type HeaderRules struct {
	Remove   []string
	Set, Add map[string]string
}

// drops reports whether a field that came is taken off, or replaced.
func (h *HeaderRules) drops(name string) bool {
	if _, ok := h.Set[name]; ok {
		return true
	}
	return slices.Contains(h.Remove, name)
}

// write appends what the rules put into a head.
func (h *HeaderRules) write(b []byte) []byte {
	for name, value := range h.Set {
		b = field(b, name, value)
	}
	for name, value := range h.Add {
		b = field(b, name, value)
	}
	return b
}

func (h *HeaderRules) apply(to http.Header) {
	for _, name := range h.Remove {
		delete(to, name)
	}
	for name, value := range h.Set {
		to[name] = []string{value}
	}
	for name, value := range h.Add {
		to[name] = append(to[name][:len(to[name]):len(to[name])], value)
	}
}

// Page is an answer of the gateway in the operator's words.
type Page struct {
	Type string // Content-Type
	Body string
}

// replacePrefix puts another beginning in the place of the path of a route. What
// comes after it stays as the client wrote it, unless he wrote the beginning
// itself in escapes.
func replacePrefix(target string, u *url.URL, prefix, by string) string {
	prefix, by = strings.TrimSuffix(prefix, "/"), strings.TrimSuffix(by, "/")
	rest, ok := strings.CutPrefix(target, prefix)
	if !ok {
		decoded, _ := strings.CutPrefix(u.Path, prefix)
		rest = (&url.URL{Path: decoded}).EscapedPath()
		if u.RawQuery != "" || u.ForceQuery {
			rest += "?" + u.RawQuery
		}
	}
	if !strings.HasPrefix(rest, "/") && by == "" {
		rest = "/" + rest
	}
	return by + rest
}
