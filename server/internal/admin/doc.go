// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package admin is the JSON API with which an operator looks at a running
// gateway and changes the state of its servers.
//
// It has no password: whoever reaches it may use it. It defends only against web
// pages in the operator's browser.
package admin
