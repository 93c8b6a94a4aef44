// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore

import "github.com/redis/rueidis"

// verdict is the first byte of what a script returns.
type verdict string

const (
	verdictDone     verdict = "+"
	verdictExists   verdict = "!"
	verdictNotFound verdict = "-"
	verdictConflict verdict = "~" // followed by the stored revision
)

type scripts struct {
	create, update, touch *rueidis.Lua // on a session
	index, unindex, raise *rueidis.Lua // on an owner
	lock, extend, unlock  *rueidis.Lua // on a lease
}

func newScripts() scripts {
	return scripts{
		create: rueidis.NewLuaScript(luaHead + luaCreate + luaWrite),
		update: rueidis.NewLuaScript(luaHead + luaUpdate + luaWrite),
		touch:  rueidis.NewLuaScript(luaHead + luaTouch),

		index:   rueidis.NewLuaScript(luaClock + luaIndex + luaKeep),
		unindex: rueidis.NewLuaScript(luaClock + luaUnindex + luaKeep),
		raise:   rueidis.NewLuaScript(luaClock + luaRaise + luaKeep),

		lock:   rueidis.NewLuaScript(luaLease + luaLock),
		extend: rueidis.NewLuaScript(luaLease + luaExtend),
		unlock: rueidis.NewLuaScript(luaLease + luaUnlock),
	}
}

// The caller's clock may run before the server's, so it is asked as well as the
// key's own expiry. Numbers of milliseconds are exact in Lua; revisions are not,
// and stay text.
//
// ARGV of create and update: now, expected revision, then revision, nonce, expiry,
// then field, value, …
const luaHead = `
local h = redis.call('HMGET', KEYS[1], 'r', 'x', 'w')
local live = h[1] and (h[2] == '0' or tonumber(h[2]) > tonumber(ARGV[1]))
`

const luaCreate = `
if live then
  if h[1] == ARGV[3] and h[3] == ARGV[4] then return '+' end
  return '!'
end
if not h[1] and redis.call('EXISTS', KEYS[1]) == 1 then return '!' end
`

const luaUpdate = `
if not live then return '-' end
if h[1] == ARGV[3] and h[3] == ARGV[4] then return '+' end
if h[1] ~= ARGV[2] then return '~' .. h[1] end
`

// A write too large for unpack's stack goes in pieces; nobody sees one alone.
// HSET comes before anything is removed, so that a server short of memory refuses
// while the record is whole; old attributes go afterwards.
const luaWrite = `
local keep = {r = true, w = true, x = true}
redis.call('HSET', KEYS[1], 'r', ARGV[3], 'w', ARGV[4], 'x', ARGV[5])
for i = 6, #ARGV, 1000 do
  redis.call('HSET', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
for i = 6, #ARGV, 2 do keep[ARGV[i]] = true end
for _, f in ipairs(redis.call('HKEYS', KEYS[1])) do
  if not keep[f] then redis.call('HDEL', KEYS[1], f) end
end
if ARGV[5] == '0' then
  redis.call('PERSIST', KEYS[1])
else
  redis.call('PEXPIREAT', KEYS[1], ARGV[5])
end
return '+'
`

// ARGV of touch: now, new expiry.
const luaTouch = `
if not live then return '-' end
if h[2] ~= '0' and tonumber(ARGV[2]) > tonumber(h[2]) then
  redis.call('HSET', KEYS[1], 'x', ARGV[2])
  redis.call('PEXPIREAT', KEYS[1], ARGV[2])
end
return '+'
`
