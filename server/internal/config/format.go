// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/belay-ha/belay/internal/wire"
)

// formats say what is wrong with a text; empty: nothing.
var formats = map[string]func(string) string{
	"name":    badName,
	"address": badAddress,
	"listen":  badListen,
	"server":  badServer,
	"path":    badPath,
	"cookie":  badCookie,
	"log":     badLog,
	"host":    badHost,
	"rule":    badRule,

	"url":      badURL,
	"route":    badRoute,
	"hash":     badHash,
	"statuses": badStatuses,
	"regexp":   badRegexp,
	"header":   badHeader,
	"value":    badValue,
}

func badName(s string) string {
	if s == "" || len(s) > 64 || strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '.' && r != '-'
	}) {
		return fmt.Sprintf("%q: use 1 to 64 of A-Z a-z 0-9 _ . -", s)
	}
	return ""
}

func badAddress(s string) string {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Sprintf("%q is not an address; write host:port, like 127.0.0.1:8080", s)
	}
	if p, err := strconv.ParseUint(port, 10, 32); err != nil || p < 1 || p > 65535 {
		return fmt.Sprintf("port %q does not exist; write a number from 1 to 65535", port)
	}
	if strings.ContainsAny(host, " /@") {
		return fmt.Sprintf("%q is not a host; write a name or an IP address, without a scheme", host)
	}
	return ""
}

func badListen(s string) string {
	if name, ok := strings.CutPrefix(s, "systemd:"); ok {
		if badName(name) != "" {
			return fmt.Sprintf("%q is not the name of a socket; write the FileDescriptorName of the unit", name)
		}
		return ""
	}
	return badServer(s)
}

func badServer(s string) string {
	path, unix := strings.CutPrefix(s, "unix:")
	switch {
	case !unix:
		return badAddress(s)
	case !filepath.IsAbs(path) || len(path) > 100:
		return fmt.Sprintf("%q is not the path of a socket; write the whole path, from / on, with at most 100 characters", path)
	}
	return ""
}

func badPath(s string) string {
	if s[0] != '/' || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' }) {
		return fmt.Sprintf("%q is not a path; begin with / and escape blanks and non-ASCII characters", s)
	}
	return ""
}

func badCookie(s string) string {
	if !isToken(s) || len(s) > 64 {
		return fmt.Sprintf("%q cannot be the name of a cookie; use letters, digits, _ and -", s)
	}
	return ""
}

func badLog(s string) string {
	if s == "stdout" || s == "stderr" || s == "off" || filepath.IsAbs(s) {
		return ""
	}
	return fmt.Sprintf("%q is none of stdout, stderr, off; a file needs its whole path, from / on", s)
}

// badHost checks the pattern of a route: a name, an IP address, or *.name.
func badHost(s string) string {
	name := strings.TrimPrefix(s, "*.")
	if ip := strings.Trim(name, "[]"); strings.Contains(ip, ":") && net.ParseIP(ip) != nil {
		return ""
	}
	if name == "" || strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '.' && r != '-'
	}) {
		return fmt.Sprintf("%q is not a host; write a name like shop.example.com, *.example.com for all below it, without port", s)
	}
	return ""
}

// isToken reports whether s is a token of RFC 9110.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune("()<>@,;:\\\"/[]?={}", r)
	})
}

func badRoute(s string) string {
	if !wire.ValidRoute(s) {
		return fmt.Sprintf("%q cannot be a route; use 1 to 32 of A-Z a-z 0-9 _ - .", s)
	}
	return ""
}

func badHash(s string) string {
	what, name, named := strings.Cut(s, ":")
	switch what {
	case "client_ip", "path":
		if !named {
			return ""
		}
	case "header", "cookie":
		if isToken(name) {
			return ""
		}
	}
	return fmt.Sprintf("%q is none of client_ip, path, header:NAME, cookie:NAME", s)
}

func badStatuses(s string) string {
	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			to = from
		}
		a, err1 := strconv.Atoi(from)
		b, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil || a < 100 || b > 599 || b < a {
			return fmt.Sprintf("%q is no status; write 200, or 200-299, or several with commas", part)
		}
	}
	return ""
}

func badRegexp(s string) string {
	if _, err := regexp.Compile(s); err != nil {
		return fmt.Sprintf("%v; write it in the syntax of RE2", err)
	}
	return ""
}

func badHeader(s string) string {
	if !isToken(s) {
		return fmt.Sprintf("%q cannot be the name of a header", s)
	}
	return ""
}

func badValue(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f }) {
		return fmt.Sprintf("%q cannot be the value of a header; use printable ASCII", s)
	}
	return ""
}

func badURL(s string) string {
	if u, err := url.Parse(s); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Sprintf("%q is not a URL; write it whole, like http://127.0.0.1:4318/v1/traces", s)
	}
	return ""
}

// badRule checks a name that a rule for headers may change.
func badRule(s string) string {
	switch name := http.CanonicalHeaderKey(s); {
	case !isToken(s):
		return fmt.Sprintf("%q is not the name of a header field; use letters, digits and -", s)
	case slices.Contains([]string{
		"Connection", "Content-Length", "Transfer-Encoding", "Trailer", "Te", "Upgrade", "Keep-Alive", "Host", "Expect", "Proxy-Connection",
	}, name), strings.HasPrefix(name, "Belay-"):
		return fmt.Sprintf("%s is written by the gateway, and cannot be changed", name)
	}
	return ""
}
