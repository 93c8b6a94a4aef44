// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore

import (
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/belay-ha/belay/session"
)

// The fields of a session's hash: what a read needs is three values, however many
// attributes there are.
const (
	fieldHead   = "h" // "expires term.n seen nonce"; a touch changes only expires
	fieldRecord = "d" // the envelope
	fieldPatch  = "p" // attributes that were patched since, in MessagePack; absent: none
)

// head is what the scripts go by, and what changes with every write. Times are in
// Unix milliseconds, 0 for none.
type head struct {
	expires, seen time.Time
	rev           session.Rev
}

// parseHead reads the head. What follows its third space is the nonce of the last
// write: any bytes.
func parseHead(text string) (h head, ok bool) {
	expires, rest, ok1 := strings.Cut(text, " ")
	rev, rest, ok2 := strings.Cut(rest, " ")
	seen, _, ok3 := strings.Cut(rest, " ")
	var err1, err2, err3 error
	h.expires, err1 = parseMillis(expires)
	h.rev, err2 = parseRev(rev)
	h.seen, err3 = parseMillis(seen)
	return h, ok1 && ok2 && ok3 && err1 == nil && err2 == nil && err3 == nil
}

// parse makes a record of the three fields.
func parse(fields []rueidis.RedisMessage) (session.Record, error) {
	text, err1 := fields[0].ToString()
	envelope, err2 := fields[1].AsBytes() // shares the answer's memory, which is ours
	if err1 != nil || err2 != nil {
		return session.Record{}, session.ErrCorrupt
	}
	rec, err := session.ParseRecord(envelope)
	if err != nil {
		return session.Record{}, err
	}
	h, ok := parseHead(text)
	if !ok {
		return session.Record{}, session.ErrCorrupt
	}
	rec.Rev, rec.Expires, rec.Seen = h.rev, h.expires, h.seen
	if fields[2].IsNil() {
		return rec, nil
	}
	packed, err := fields[2].AsBytes()
	if err == nil {
		rec.Attrs, err = patched(rec.Attrs, packed)
	}
	if err != nil {
		return session.Record{}, session.ErrCorrupt
	}
	return rec, nil
}

func parseRev(s string) (session.Rev, error) {
	term, n, _ := strings.Cut(s, ".")
	t, err := strconv.ParseUint(term, 10, 64)
	if err != nil {
		return session.Rev{}, err
	}
	m, err := strconv.ParseUint(n, 10, 64)
	return session.Rev{Term: t, N: m}, err
}

// appendRev appends what parseRev reads.
func appendRev(b []byte, v session.Rev) []byte {
	b = append(strconv.AppendUint(b, v.Term, 10), '.')
	return strconv.AppendUint(b, v.N, 10)
}

func parseMillis(s string) (time.Time, error) {
	ms, err := strconv.ParseInt(s, 10, 64)
	if err != nil || ms == 0 {
		return time.Time{}, err
	}
	return time.UnixMilli(ms), nil
}

// unixMilli is what parseMillis reads.
func unixMilli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
