// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/belay-ha/belay/internal/redisconn"
	"github.com/belay-ha/belay/session"
)

var (
	_ session.Store   = (*Store)(nil)
	_ session.Pinger  = (*Store)(nil)
	_ session.Indexer = (*Store)(nil)
	_ session.Runner  = (*Store)(nil)
)

// Store is a session.Store in Redis. It is safe for concurrent use.
type Store struct {
	conn      *redisconn.Conn
	prefix    string
	publishes bool
	scripts   scripts
	maxRecord int
	tell      func(server string, n uint64) // of evictions; nil: nobody
	requests  sync.Pool                     // of *request
}

// Close ends the connections. The Store must not be used afterwards.
func (s *Store) Close() error {
	s.conn.Close()
	return nil
}

func (s *Store) key(id session.ID) string {
	return string(s.appendKey(make([]byte, 0, 96), id))
}

func (s *Store) appendKey(b []byte, id session.ID) []byte {
	b = append(append(b, s.prefix...), '{')
	return append(id.AppendKey(b), '}')
}

// Load implements session.Store.
func (s *Store) Load(ctx context.Context, id session.ID) (session.Record, error) {
	r := s.about(id)
	res := s.conn.On(ctx, "HMGET", r.cut()[0], fieldHead, fieldRecord, fieldPatch)
	if res.Gone() {
		s.keep(r)
	}
	if err := res.Err(); err != nil {
		return session.Record{}, unavailable("load", err)
	}
	fields, err := res.ToArray()
	if err != nil || len(fields) != 3 {
		return session.Record{}, unavailable("load", errors.New("the server's answer is not three values"))
	}
	if fields[0].IsNil() && fields[1].IsNil() {
		return session.Record{}, session.ErrNotFound
	}
	rec, err := parse(fields)
	if err != nil {
		return session.Record{}, err
	}
	if rec.Expired(time.Now()) {
		return session.Record{}, session.ErrNotFound
	}
	return rec, nil
}

// Create implements session.Store.
func (s *Store) Create(ctx context.Context, id session.ID, rec session.Record) error {
	verdict, _, err := s.run(ctx, "create", s.scripts.create, s.whole(id, &rec, session.Rev{}))
	if err == nil && verdict == verdictExists {
		err = session.ErrExists
	}
	return err
}

// Update implements session.Store.
func (s *Store) Update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) error {
	verdict, found, err := s.run(ctx, "update", s.scripts.update, s.whole(id, &rec, ifRev))
	if err != nil {
		return err
	}
	return found.outcome("update", verdict, rec.Rev)
}

// Touch implements session.Store. It waits for no replicas: a touch that is lost
// ends a session early.
func (s *Store) Touch(ctx context.Context, id session.ID, expires time.Time) error {
	r := s.about(id).time(time.Now()).time(expires)
	parts := r.cut()
	res := s.conn.Script(ctx, s.scripts.touch, parts[:1], parts[1:]...)
	if res.Gone() {
		s.keep(r)
	}
	if err := res.Err(); err != nil {
		return unavailable("touch", err)
	}
	text, err := res.ToString()
	switch {
	case err != nil:
		return unavailable("touch", err)
	case verdict(text) == verdictNotFound:
		return session.ErrNotFound
	}
	return nil
}

// Ping implements session.Pinger.
func (s *Store) Ping(ctx context.Context) error {
	res := s.conn.Do(ctx, func(b rueidis.Builder) rueidis.Completed { return b.Ping().Build() })
	if err := res.Err(); err != nil {
		return unavailable("ping", err)
	}
	return nil
}

// finding is what a script says besides its verdict.
type finding struct {
	rev      session.Rev // the stored one, of a conflict
	repeated bool
	gone     bool // what was sent
}

// run runs a script that writes a session.
func (s *Store) run(ctx context.Context, op string, script *redisconn.Script, r *request) (verdict, finding, error) {
	if size := r.size(); size > s.maxRecord+argsSize {
		return "", finding{}, fmt.Errorf("redisstore: %s: %w: %d bytes, MaxRecord is %d", op, session.ErrTooLarge, size, s.maxRecord)
	}
	parts := r.cut()
	text, f, err := s.write(ctx, op, script, parts[:1], parts[1:]...)
	if f.gone {
		s.keep(r)
	}
	if err != nil {
		return "", finding{}, err
	}
	v, rev := verdict(text[:1]), text[1:]
	if v == verdictConflict {
		if f.rev, err = parseRev(rev); err != nil {
			return "", f, session.ErrCorrupt
		}
	}
	return v, f, nil
}

// write runs a script whose work is done when enough replicas have it. What it
// did not do needs none.
func (s *Store) write(ctx context.Context, op string, script *redisconn.Script, keys []string, args ...string) (string, finding, error) {
	res := s.conn.WriteScript(ctx, script, keys, args...)
	err := res.Err()
	lonely := errors.Is(err, redisconn.ErrReplicas)
	if err != nil && !lonely {
		return "", finding{}, unavailable(op, err)
	}
	text, e := res.ToString()
	switch {
	case e != nil:
		return "", finding{}, unavailable(op, e)
	case text == "":
		return "", finding{}, unavailable(op, errors.New("the server's answer is empty"))
	case lonely && verdict(text[:1]) == verdictDone:
		return "", finding{}, unavailable(op, err)
	}
	return text, finding{repeated: res.Repeated, gone: res.Gone()}, nil
}

// argsSize is what the arguments besides a record may take.
const argsSize = 1 << 10

// whole are the arguments of a script that writes a whole record.
func (s *Store) whole(id session.ID, rec *session.Record, ifRev session.Rev) *request {
	return s.about(id).time(time.Now()).rev(ifRev).head(rec.Expires, rec.Rev, rec.Seen).record(rec)
}

// nonce tells one write from another that chose the same revision.
func nonce() string {
	var b [nonceSize]byte
	binary.LittleEndian.PutUint64(b[:], random())
	return string(b[:])
}

func random() uint64 { return rand.Uint64() }

func unavailable(op string, err error) error {
	return fmt.Errorf("redisstore: %s: %w: %w", op, session.ErrUnavailable, err)
}
