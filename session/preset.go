// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import "time"

// The presets are Options with the time limits of the authenticator assurance
// levels of NIST SP 800-63B-4. Change what you need in the copy you get.

// AAL1 is for low risk: 30 days, no idle limit.
func AAL1() *Options { return &Options{Idle: -1, Lifetime: 30 * 24 * time.Hour} }

// AAL2 is for two factors: 24 hours, one hour idle.
func AAL2() *Options { return &Options{Idle: time.Hour, Lifetime: 24 * time.Hour} }

// AAL3 is for hardware keys: 12 hours, 15 minutes idle.
func AAL3() *Options { return &Options{Idle: 15 * time.Minute, Lifetime: 12 * time.Hour} }

// FreshFor reports whether the owner proved who he is less than d ago: for what
// wants his password once more (a step-up). After he gave it, call Renew with
// ForUser.
func (s *Session) FreshFor(d time.Duration) bool {
	at := s.AuthTime()
	return !at.IsZero() && time.Since(at) < d
}
