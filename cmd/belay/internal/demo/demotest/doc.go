// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package demotest is what tests of the demo share: a network on pipes, which
// works on the fake time of testing/synctest, and a gate that stands for a
// frozen process. It is for tests only, and listens on no real port.
package demotest
