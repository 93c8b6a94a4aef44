// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package clientip finds out who the client is when trusted proxies stand in
// between, and what to tell the app servers about it.
//
// It is pure. It never believes a header from an address that is not trusted.
package clientip
