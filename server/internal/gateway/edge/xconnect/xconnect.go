// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package xconnect lets net/http's server offer WebSockets inside HTTP/2 (RFC
// 8441), which it does not do by itself: programs that do not expect such
// requests would take them for something else (go.dev/issue/71128). The gateway
// expects them.
//
// The only switch is a word in GODEBUG that net/http reads as it is initialized.
// Packages are initialized in the order of their paths as far as imports allow,
// so this one, which needs no more than os, comes before net/http.
package xconnect

import (
	"os"
	"strings"
)

func init() { _ = os.Setenv("GODEBUG", with(os.Getenv("GODEBUG"))) }

// with adds the word to what GODEBUG says. What an operator has said stays.
func with(said string) string {
	const word = "http2xconnect="
	switch {
	case strings.Contains(said, word):
		return said
	case said == "":
		return word + "1"
	}
	return said + "," + word + "1"
}
