// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore

import (
	"fmt"
	"strings"

	"github.com/belay-ha/belay/internal/redisconn"
)

// verdict is the first byte of what a script returns.
type verdict string

const (
	verdictDone     verdict = "+"
	verdictExists   verdict = "!"
	verdictNotFound verdict = "-"
	verdictConflict verdict = "~" // followed by the stored revision
	verdictLate     verdict = "?" // the deadline has passed
	verdictWhole    verdict = "=" // to be written as a whole
)

type scripts struct {
	create, update, patch, touch, remove *redisconn.Script // on a session
	index, unindex, raise                *redisconn.Script // on an owner
	lock, extend, unlock                 *redisconn.Script // on a lease
}

// newScripts are those that publish what they change, or do not, for keys that begin
// with prefix.
func newScripts(prefix string, publish bool) scripts {
	say := "local function say(key, what) end\n"
	if publish {
		say = fmt.Sprintf(luaSay, luaText(prefix+channelName), len(prefix)+len("{")+1)
	}
	return scripts{
		create: redisconn.NewScript(luaHead + luaNext + luaCreate + luaWrite),
		update: redisconn.NewScript(say + luaHead + luaNext + luaUpdate + luaWrite),
		patch:  redisconn.NewScript(say + luaHead + luaNext + luaPatch),
		touch:  redisconn.NewScript(luaHead + luaTouch),
		remove: redisconn.NewScript(say + luaRemove),

		index:   redisconn.NewScript(luaClock + luaIndex + luaKeep),
		unindex: redisconn.NewScript(luaClock + luaUnindex + luaKeep),
		raise:   redisconn.NewScript(luaClock + luaRaise + luaKeep),

		lock:   redisconn.NewScript(luaLease + luaLock),
		extend: redisconn.NewScript(luaLease + luaExtend),
		unlock: redisconn.NewScript(luaLease + luaUnlock),
	}
}

// The caller's clock may run before the server's, so it is asked as well as the
// key's own expiry. Numbers of milliseconds are exact in Lua; revisions are not,
// and stay text.
//
// ARGV[1]: now. live is whether there is a session, x when it expires and r its
// revision.
const luaHead = `
local head = redis.call('HGET', KEYS[1], 'h')
local x, r
if head then x, r = string.match(head, '^(%d+) (%d+%.%d+) %-?%d+ ') end
local live = x and (x == '0' or tonumber(x) > tonumber(ARGV[1]))
`

// ARGV of create and update: now, expected revision, then head and envelope. A write
// that was carried out is known by its head, but for the expiry, which a touch may
// have moved since.
const luaNext = `
local new = ARGV[3]
local nx, nr = string.match(new, '^(%-?%d+) (%S+)')
local done = r == nr and string.sub(head, #x + 1) == string.sub(new, #nx + 1)
`

// say publishes a change, before it is made: so it is refused while nothing is
// written, if it is not allowed, and nobody can act on it before the script ends.
const luaSay = `
local function say(key, what)
  redis.call('PUBLISH', %s, string.sub(key, %d, -2) .. ' ' .. what)
end
`

// luaText is a string as a script has it.
func luaText(s string) string {
	var b strings.Builder
	b.WriteByte('\'')
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, "\\%03d", c)
	}
	b.WriteByte('\'')
	return b.String()
}

const luaCreate = `
if live then
  if done then return '+' end
  return '!'
end
if not x and redis.call('EXISTS', KEYS[1]) == 1 then return '!' end
`

const luaUpdate = luaExpected + `
say(KEYS[1], nr)
`

const luaExpected = `
if not live then return '-' end
if done then return '+' end
if r ~= ARGV[2] then return '~' .. r end
`

// HSET comes before anything is removed, so that a server short of memory refuses
// while the record is whole; what patches had written goes afterwards.
const luaWrite = `
redis.call('HSET', KEYS[1], 'h', new, 'd', ARGV[4])
redis.call('HDEL', KEYS[1], 'p')
` + luaExpire

// ARGV of patch: now, expected revision, then head, the attempt's deadline or 0, how
// many attributes are set, then name, value, … and the names of those removed. What
// is packed is bounded: above that the record is to be written as a whole, once.
const luaPatch = luaExpected + `
if ARGV[4] ~= '0' then
  local now = redis.call('TIME')
  if now[1] * 1000 + math.floor(now[2] / 1000) > tonumber(ARGV[4]) then return '?' end
end
local packed
if #ARGV > 5 then
  local p = redis.call('HGET', KEYS[1], 'p')
  local t = p and cmsgpack.unpack(p) or {}
  local set = 5 + 2 * ARGV[5]
  for i = 6, set, 2 do t[ARGV[i]] = ARGV[i + 1] end
  for i = set + 1, #ARGV do t[ARGV[i]] = false end
  packed = cmsgpack.pack(t)
  if #packed > 4096 and #packed > redis.call('HSTRLEN', KEYS[1], 'd') then return '=' end
end
say(KEYS[1], nr)
if packed then
  redis.call('HSET', KEYS[1], 'h', new, 'p', packed)
else
  redis.call('HSET', KEYS[1], 'h', new)
end
` + luaExpire

const luaExpire = `
if nx == '0' then
  if x ~= '0' then redis.call('PERSIST', KEYS[1]) end
elseif x ~= nx then
  redis.call('PEXPIREAT', KEYS[1], nx)
end
return '+'
`

// ARGV of touch: now, new expiry.
const luaTouch = `
if not live then return '-' end
if x ~= '0' and tonumber(ARGV[2]) > tonumber(x) then
  redis.call('HSET', KEYS[1], 'h', ARGV[2] .. string.sub(head, #x + 1))
  redis.call('PEXPIREAT', KEYS[1], ARGV[2])
end
return '+'
`

// Each deletion is told, also of what is not there: who holds it must know.
const luaRemove = `
for _, key in ipairs(KEYS) do
  say(key, '')
  redis.call('UNLINK', key)
end
return '+'
`
