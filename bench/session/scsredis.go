// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net/http"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/redis/rueidis"

	"github.com/belay-ha/belay/internal/redisconn"
)

var _ scs.CtxStore = (*scsRedis)(nil)

// scsRedis is what scs's own Redis stores do, a GET and a SET, over the client
// and the settings that Belay uses, so that no difference is the client's.
type scsRedis struct {
	conn *redisconn.Conn
	ctx  context.Context // of all calls, instead of a deadline for each
}

func openSCSRedis(ctx context.Context, address string) (http.Handler, error) {
	conn, err := redisconn.Open(ctx, "redis://"+address+"/0", nil)
	if err != nil {
		return nil, err
	}
	return scsOn(&scsRedis{conn, lasting{ctx}}), nil
}

const scsPrefix = "scs:session:"

func (s *scsRedis) FindCtx(_ context.Context, token string) ([]byte, bool, error) {
	res := s.conn.Do(s.ctx, func(b rueidis.Builder) rueidis.Completed { return b.Get().Key(scsPrefix + token).Build() })
	if err := res.Err(); err != nil {
		return nil, false, err
	}
	v, err := res.AsBytes()
	if rueidis.IsRedisNil(err) {
		return nil, false, nil
	}
	return v, err == nil, err
}

func (s *scsRedis) CommitCtx(_ context.Context, token string, b []byte, expiry time.Time) error {
	return s.conn.Do(s.ctx, func(c rueidis.Builder) rueidis.Completed {
		return c.Set().Key(scsPrefix + token).Value(rueidis.BinaryString(b)).PxatMillisecondsTimestamp(expiry.UnixMilli()).Build()
	}).Err()
}

func (s *scsRedis) DeleteCtx(_ context.Context, token string) error {
	return s.conn.Do(s.ctx, func(b rueidis.Builder) rueidis.Completed { return b.Del().Key(scsPrefix + token).Build() }).Err()
}

// The rest is for callers that have no context; scs has one.

func (s *scsRedis) Find(token string) ([]byte, bool, error) {
	return s.FindCtx(context.Background(), token)
}

func (s *scsRedis) Commit(token string, b []byte, expiry time.Time) error {
	return s.CommitCtx(context.Background(), token, b, expiry)
}

func (s *scsRedis) Delete(token string) error { return s.DeleteCtx(context.Background(), token) }
