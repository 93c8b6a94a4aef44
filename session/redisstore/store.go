// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/belay-ha/belay/internal/redisconn"
	"github.com/belay-ha/belay/session"
)

var (
	_ session.Store   = (*Store)(nil)
	_ session.Pinger  = (*Store)(nil)
	_ session.Indexer = (*Store)(nil)
)

// Options of Open. The zero value of each field is its default.
type Options struct {
	// Prefix begins every key; the part of the session or of its owner follows in
	// braces, so that all that belongs to one of them lies in one slot. Default
	// "belay:s:".
	Prefix string
	// Timeout bounds a call whose context has no deadline. Default 2 s.
	Timeout time.Duration
}

const defaultPrefix = "belay:s:"

// Store is a session.Store in Redis. It is safe for concurrent use.
type Store struct {
	conn    *redisconn.Conn
	prefix  string
	scripts scripts
}

// Open connects to redis://user:password@host:6379/0 (rediss: with TLS). It
// fails if the server does not answer; later the Store reconnects by itself.
func Open(ctx context.Context, url string, opts *Options) (*Store, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.Prefix == "" {
		o.Prefix = defaultPrefix
	}
	if o.Timeout < 0 {
		return nil, errors.New("redisstore: open: Timeout is negative")
	}
	conn, err := redisconn.Open(ctx, url, &redisconn.Options{Timeout: o.Timeout})
	if err != nil {
		return nil, fmt.Errorf("redisstore: %w: %w", session.ErrUnavailable, err)
	}
	return &Store{conn: conn, prefix: o.Prefix, scripts: newScripts()}, nil
}

// Close ends the connections. The Store must not be used afterwards.
func (s *Store) Close() error {
	s.conn.Close()
	return nil
}

func (s *Store) key(id session.ID) string {
	b := make([]byte, 0, 96)
	b = append(append(b, s.prefix...), '{')
	b = append(id.AppendKey(b), '}')
	return string(b)
}

// Load implements session.Store.
func (s *Store) Load(ctx context.Context, id session.ID) (session.Record, error) {
	key := s.key(id)
	res := s.conn.Do(ctx, func(b rueidis.Builder) rueidis.Completed {
		return b.Hmget().Key(key).Field(fieldHead, fieldRecord, fieldPatch).Build()
	})
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
	verdict, _, err := s.run(ctx, "create", s.scripts.create, id, argsOf(&rec, ""))
	if err == nil && verdict == verdictExists {
		err = session.ErrExists
	}
	return err
}

// Update implements session.Store.
func (s *Store) Update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) error {
	verdict, found, err := s.run(ctx, "update", s.scripts.update, id, argsOf(&rec, ifRev.String()))
	if err != nil {
		return err
	}
	return found.outcome("update", verdict, rec.Rev)
}

// Touch implements session.Store.
func (s *Store) Touch(ctx context.Context, id session.ID, expires time.Time) error {
	verdict, _, err := s.run(ctx, "touch", s.scripts.touch, id, []string{nowMillis(), millis(expires)})
	if err == nil && verdict == verdictNotFound {
		err = session.ErrNotFound
	}
	return err
}

// Delete implements session.Store, in one command.
func (s *Store) Delete(ctx context.Context, ids ...session.ID) error {
	if len(ids) == 0 {
		return nil
	}
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = s.key(id)
	}
	res := s.conn.Do(ctx, func(b rueidis.Builder) rueidis.Completed { return b.Unlink().Key(keys...).Build() })
	if err := res.Err(); err != nil {
		return unavailable("delete", err)
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
}

func (s *Store) run(ctx context.Context, op string, script *rueidis.Lua, id session.ID, args []string) (verdict, finding, error) {
	res := s.conn.Script(ctx, script, []string{s.key(id)}, args...)
	if err := res.Err(); err != nil {
		return "", finding{}, unavailable(op, err)
	}
	text, err := res.ToString()
	if err != nil {
		return "", finding{}, unavailable(op, err)
	}
	v, rev := verdict(text[:1]), text[1:]
	f := finding{repeated: res.Repeated}
	if v == verdictConflict {
		if f.rev, err = parseRev(rev); err != nil {
			return "", f, session.ErrCorrupt
		}
	}
	return v, f, nil
}

// argsOf are the arguments of a script that writes a whole record.
func argsOf(rec *session.Record, ifRev string) []string {
	return []string{nowMillis(), ifRev, rec.Rev.String(), nonce(), millis(rec.Expires), millis(rec.Seen), envelope(rec)}
}

// nonce tells one write from another that chose the same revision.
func nonce() string {
	var b [nonceSize]byte
	binary.LittleEndian.PutUint64(b[:], rand.Uint64())
	return string(b[:])
}

func nowMillis() string { return strconv.FormatInt(time.Now().UnixMilli(), 10) }

func unavailable(op string, err error) error {
	return fmt.Errorf("redisstore: %s: %w: %w", op, session.ErrUnavailable, err)
}
