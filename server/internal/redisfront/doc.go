// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package redisfront is one address in front of a Redis group. Redis Sentinel
// decides who is master; the front is the address that does not change, and the
// fence: it leads writers to the node that a majority of the sentinels agrees on
// with the highest configuration epoch, and to no other.
//
// When the master changes, connections to the old one are cut, new ones wait for
// at most Hold, and then reach the new one. A write passes only while the last
// proof of the majority is younger than the lease, which is shorter than the time
// in which the sentinels could promote somebody else.
//
// It never elects, never goes back to a lower epoch, never takes the word of a
// node about itself alone, and never looks into the traffic.
package redisfront
