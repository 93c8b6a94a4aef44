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

// What an operator has said stays.
func init() {
	const word = "http2xconnect="
	said := os.Getenv("GODEBUG")
	if strings.Contains(said, word) {
		return
	}
	if said != "" {
		said += ","
	}
	_ = os.Setenv("GODEBUG", said+word+"1")
}
