// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/belay-ha/belay/session"
)

var _ session.Locker = (*Store)(nil)

// A lease is a hash beside its session: 'l', the last number given out, 'u', until
// when in Unix milliseconds, absent if it was given back, and 'w', the nonce of the
// call that took it. The server's clock alone says what has run out.
//
// Numbers start at the server's time in microseconds, as those of owners do. The
// last one is remembered a while longer, for a clock that is set back.
const leaseKept = 5 * time.Minute

const luaLease = `
local t = redis.call('TIME')
local micros = t[1] * 1000000 + t[2]
local millis = math.floor(micros / 1000)
local h = redis.call('HMGET', KEYS[1], 'l', 'u', 'w')
local held = h[2] and tonumber(h[2]) > millis
local function text(n) return string.format('%.0f', n) end
`

// ARGV: nonce, time to live, how long the number is remembered. The same call sent
// twice takes one lease; sent again after that was given back, none.
const luaLock = `
if h[3] == ARGV[1] and (held or not h[2]) then return '+' .. h[1] end
if held then return '!' end
local lease = text(math.max(micros, tonumber(h[1] or 0) + 1))
redis.call('HSET', KEYS[1], 'l', lease, 'u', text(millis + ARGV[2]), 'w', ARGV[1])
redis.call('PEXPIREAT', KEYS[1], text(millis + ARGV[2] + ARGV[3]))
return '+' .. lease
`

// ARGV: lease, time to live, how long the number is remembered. The expiry comes
// first: a server at its maxmemory refuses a script's first write if that may need
// memory, and then no other; who has the lease is to keep it.
const luaExtend = `
if not held or h[1] ~= ARGV[1] then return '-' end
redis.call('PEXPIREAT', KEYS[1], text(millis + ARGV[2] + ARGV[3]))
redis.call('HSET', KEYS[1], 'u', text(millis + ARGV[2]))
return '+'
`

// ARGV: lease.
const luaUnlock = `
if h[1] == ARGV[1] then redis.call('HDEL', KEYS[1], 'u') end
return '+'
`

func (s *Store) leaseKeys(id session.ID) []string { return []string{s.key(id) + ":l"} }

// Lock implements session.Locker. If it fails with session.ErrUnavailable the
// lease may have been taken all the same; it then runs out.
func (s *Store) Lock(ctx context.Context, id session.ID, ttl time.Duration) (session.Lease, error) {
	return s.lock(ctx, id, ttl, nonce())
}

func (s *Store) lock(ctx context.Context, id session.ID, ttl time.Duration, nonce string) (session.Lease, error) {
	text, _, err := s.write(ctx, "lock", s.scripts.lock, s.leaseKeys(id), nonce, wholeMillis(ttl), wholeMillis(leaseKept))
	switch {
	case err != nil:
		return 0, err
	case verdict(text[:1]) == verdictExists:
		return 0, session.ErrLocked
	}
	n, err := strconv.ParseUint(text[1:], 10, 64)
	if err != nil {
		return 0, unavailable("lock", errors.New("the server's answer is no number"))
	}
	return session.Lease(n), nil
}

// Extend implements session.Locker. It works on a full server too.
func (s *Store) Extend(ctx context.Context, id session.ID, l session.Lease, ttl time.Duration) error {
	text, _, err := s.write(ctx, "extend", s.scripts.extend, s.leaseKeys(id), leaseText(l), wholeMillis(ttl), wholeMillis(leaseKept))
	switch {
	case err != nil:
		return err
	case verdict(text) == verdictNotFound:
		return session.ErrLeaseLost
	}
	return nil
}

// Unlock implements session.Locker. It works on a full server too.
func (s *Store) Unlock(ctx context.Context, id session.ID, l session.Lease) error {
	_, _, err := s.write(ctx, "unlock", s.scripts.unlock, s.leaseKeys(id), leaseText(l))
	return err
}

func leaseText(l session.Lease) string { return strconv.FormatUint(uint64(l), 10) }

// wholeMillis rounds up: a lease lasts as long as its holder believes.
func wholeMillis(d time.Duration) string {
	ms := d.Milliseconds()
	if d%time.Millisecond > 0 {
		ms++
	}
	return strconv.FormatInt(ms, 10)
}
