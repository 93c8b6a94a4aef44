// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore

// LockAs is Lock with the nonce of one call, which a network may deliver twice.
var LockAs = (*Store).lock

// TellEvictions is one look of Run.
var TellEvictions = (*Store).tellEvictions

// HasMemory reports whether memory of an earlier call is there to be used again,
// and takes it away.
func (s *Store) HasMemory() bool { return s.requests.Get() != nil }
