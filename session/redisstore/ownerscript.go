// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore

// An owner is two keys in one slot. KEYS[1] is a hash: for each session a field,
// a colon and its ID, with the nonce of the call that made it (8 bytes) and then
// "seq added until"; fieldSeq and fieldEpoch hold the last number given out.
// KEYS[2] is a sorted set of the same fields by their until, to find in few steps
// what has ended and what ends last.
//
// Numbers of order start at the server's time in microseconds: should the owner's
// keys be forgotten, or a replica be promoted that lacks the last of them, they
// go on growing all the same. Lua has them exactly until the year 2255.
const (
	fieldSeq   = "s"
	fieldEpoch = "e"
)

const luaClock = `
local t = redis.call('TIME')
local micros = t[1] * 1000000 + t[2]
local millis = math.floor(micros / 1000)
local function text(n) return string.format('%.0f', n) end
local function grown(field)
  return text(math.max(micros, tonumber(redis.call('HGET', KEYS[1], field) or 0) + 1))
end
local answer = '+'
`

// ARGV: field, until, nonce, then how long an entry is kept after its until. The
// same call sent twice makes one entry: nobody sees it at two places.
const luaIndex = `
local old = redis.call('HGET', KEYS[1], ARGV[1])
if old and old:sub(1, 8) == ARGV[3] then return '+' .. old:sub(9) end
local seq = grown('s')
local entry = seq .. ' ' .. text(millis) .. ' ' .. ARGV[2]
redis.call('HSET', KEYS[1], 's', seq, ARGV[1], ARGV[3] .. entry)
redis.call('ZADD', KEYS[2], ARGV[2] == '0' and '+inf' or ARGV[2], ARGV[1])
local dead = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', text(millis - ARGV[4]), 'LIMIT', 0, 100)
for _, f in ipairs(dead) do
  redis.call('HDEL', KEYS[1], f)
  redis.call('ZREM', KEYS[2], f)
end
answer = '+' .. entry
`

// ARGV: fields.
const luaUnindex = `
for _, f in ipairs(ARGV) do
  redis.call('HDEL', KEYS[1], f)
  redis.call('ZREM', KEYS[2], f)
end
`

// A server at its maxmemory refuses the first write of a script if that may need
// memory, and then no other: a revocation is not to fail for that.
const luaRaise = `
redis.call('PERSIST', KEYS[1])
redis.call('HSET', KEYS[1], 'e', grown('e'))
`

// Both keys live until the last entry has ended and an hour after the last
// change: far longer than any log-in takes, which is all that compares epochs.
const luaKeep = `
local last = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
for _, key in ipairs(KEYS) do
  if last == 'inf' then
    redis.call('PERSIST', key)
  else
    redis.call('PEXPIREAT', key, text(math.max(tonumber(last or 0), millis) + 3600000))
  end
end
return answer
`
