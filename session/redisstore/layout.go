// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/belay-ha/belay/session"
)

// The fields of a session's hash. Attributes have a colon before their name, so
// none can be taken for one of these.
const (
	fieldMeta    = "m" // the envelope of the record without attributes
	fieldRev     = "r" // "term.n"
	fieldExpires = "x" // Unix milliseconds, "0": never; a touch changes only this
	fieldNonce   = "w" // of the last write
	attrPrefix   = ":"
)

// fieldsOf is what the scripts get: revision, nonce and expiry, then the other
// names and values.
func fieldsOf(rec *session.Record, nonce string) []string {
	meta := *rec
	meta.Attrs = nil
	args := make([]string, 0, 5+2*len(rec.Attrs))
	args = append(args, rec.Rev.String(), nonce, millis(rec.Expires),
		fieldMeta, string(session.AppendRecord(nil, &meta)))
	for _, a := range rec.Attrs {
		args = append(args, attrPrefix+a.Name, string(a.Value))
	}
	return args
}

func parse(fields map[string]rueidis.RedisMessage) (session.Record, error) {
	text := func(name string) string {
		m := fields[name]
		s, _ := m.ToString()
		return s
	}
	rec, err := session.ParseRecord([]byte(text(fieldMeta)))
	if err != nil {
		return session.Record{}, err
	}
	if rec.Rev, err = parseRev(text(fieldRev)); err != nil {
		return session.Record{}, session.ErrCorrupt
	}
	ms, err := strconv.ParseInt(text(fieldExpires), 10, 64)
	if err != nil {
		return session.Record{}, session.ErrCorrupt
	}
	rec.Expires = time.Time{}
	if ms != 0 {
		rec.Expires = time.UnixMilli(ms)
	}
	rec.Attrs = make(session.Attrs, 0, max(0, len(fields)-4))
	for name, value := range fields {
		if attr, ok := strings.CutPrefix(name, attrPrefix); ok {
			s, err := value.ToString()
			if err != nil {
				return session.Record{}, session.ErrCorrupt
			}
			rec.Attrs = append(rec.Attrs, session.Attr{Name: attr, Value: []byte(s)})
		}
	}
	slices.SortFunc(rec.Attrs, func(a, b session.Attr) int { return strings.Compare(a.Name, b.Name) })
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

func millis(t time.Time) string {
	if t.IsZero() {
		return "0"
	}
	return strconv.FormatInt(t.UnixMilli(), 10)
}
