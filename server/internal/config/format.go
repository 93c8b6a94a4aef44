// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
)

// formats say what is wrong with a text; empty: nothing.
var formats = map[string]func(string) string{
	"name":    badName,
	"address": badAddress,
	"path":    badPath,
	"cookie":  badCookie,
	"log":     badLog,
	"host":    badHost,
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
