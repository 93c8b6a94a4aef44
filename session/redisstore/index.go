// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/belay-ha/belay/session"
)

const (
	entryPrefix = ":" // of a session's field in his hash
	nonceSize   = 8
	// untilSlack is how long an entry is kept after its until: a node whose clock
	// runs behind takes the record for alive, and a revocation must find it.
	untilSlack = 5 * time.Minute
)

// ownerKeys hashes the owner: his name may be anything, and is nobody's business.
func (s *Store) ownerKeys(owner string) []string {
	sum := sha256.Sum256([]byte(owner))
	key := s.prefix + "o:{" + base64.RawURLEncoding.EncodeToString(sum[:20]) + "}"
	return []string{key, key + ":u"}
}

// Index implements session.Indexer. The times of entries are the server's.
func (s *Store) Index(ctx context.Context, owner string, id session.ID, until time.Time) (session.Entry, error) {
	text, _, err := s.write(ctx, "index", s.scripts.index, s.ownerKeys(owner),
		entryPrefix+id.Key(), strconv.FormatInt(unixMilli(until), 10), nonce(), strconv.FormatInt(untilSlack.Milliseconds(), 10))
	if err != nil {
		return session.Entry{}, err
	}
	e, _, err := parseEntry(id, strings.TrimPrefix(text, string(verdictDone)))
	return e, err
}

// Unindex implements session.Indexer.
func (s *Store) Unindex(ctx context.Context, owner string, ids ...session.ID) error {
	if len(ids) == 0 {
		return nil
	}
	fields := make([]string, len(ids))
	for i, id := range ids {
		fields[i] = entryPrefix + id.Key()
	}
	_, _, err := s.write(ctx, "unindex", s.scripts.unindex, s.ownerKeys(owner), fields...)
	return err
}

// Entries implements session.Indexer.
func (s *Store) Entries(ctx context.Context, owner string) ([]session.Entry, error) {
	key := s.ownerKeys(owner)[0]
	res := s.conn.On(ctx, "HGETALL", key)
	if err := res.Err(); err != nil {
		return nil, unavailable("entries", err)
	}
	fields, err := res.AsStrMap()
	if err != nil {
		return nil, unavailable("entries", err)
	}
	var list []session.Entry
	for field, value := range fields {
		text, ok := strings.CutPrefix(field, entryPrefix)
		if !ok {
			continue
		}
		id, err := session.ParseID(text)
		if err != nil || len(value) < nonceSize {
			return nil, errEntry
		}
		e, until, err := parseEntry(id, value[nonceSize:])
		if err != nil {
			return nil, err
		}
		if until.IsZero() || time.Since(until) < untilSlack {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b session.Entry) int { return cmp.Compare(a.Seq, b.Seq) })
	return list, nil
}

// Epoch implements session.Indexer.
func (s *Store) Epoch(ctx context.Context, owner string) (uint64, error) {
	key := s.ownerKeys(owner)[0]
	res := s.conn.On(ctx, "HGET", key, fieldEpoch)
	if err := res.Err(); err != nil {
		return 0, unavailable("epoch", err)
	}
	text, err := res.ToString()
	if rueidis.IsRedisNil(err) {
		return 0, nil
	}
	if err != nil {
		return 0, unavailable("epoch", err)
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("redisstore: epoch: %w", session.ErrCorrupt)
	}
	return n, nil
}

// RaiseEpoch implements session.Indexer. It works on a full server too.
func (s *Store) RaiseEpoch(ctx context.Context, owner string) error {
	_, _, err := s.write(ctx, "raise epoch", s.scripts.raise, s.ownerKeys(owner))
	return err
}

// errEntry: to leave out what cannot be read would be to leave a session alive
// that is being revoked.
var errEntry = fmt.Errorf("redisstore: an entry of the owner's index: %w", session.ErrCorrupt)

// parseEntry reads "seq added until".
func parseEntry(id session.ID, text string) (e session.Entry, until time.Time, err error) {
	parts := strings.Split(text, " ")
	if len(parts) != 3 {
		return session.Entry{}, time.Time{}, errEntry
	}
	seq, err1 := strconv.ParseUint(parts[0], 10, 64)
	added, err2 := strconv.ParseInt(parts[1], 10, 64)
	ends, err3 := strconv.ParseInt(parts[2], 10, 64)
	if err := cmp.Or(err1, err2, err3); err != nil {
		return session.Entry{}, time.Time{}, errEntry
	}
	if ends != 0 {
		until = time.UnixMilli(ends)
	}
	return session.Entry{ID: id, Seq: seq, Added: time.UnixMilli(added)}, until, nil
}
