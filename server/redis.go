// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"log/slog"

	"github.com/belay-ha/belay/server/internal/redisfront"
)

// RedisFront is one address in front of a Redis group.
type RedisFront = redisfront.Front

// RedisFrontConfig describes the group and its front.
type RedisFrontConfig = redisfront.Config

// RedisAuth is how to log in to Redis or to a sentinel.
type RedisAuth = redisfront.Auth

// RedisGuardConfig describes a Redis server that may be started, and whom to ask.
type RedisGuardConfig = redisfront.GuardConfig

// NewRedisFront returns a front that does nothing before its Run.
func NewRedisFront(cfg RedisFrontConfig, log *slog.Logger) (*RedisFront, error) {
	return redisfront.New(cfg, &redisfront.Options{Logger: log})
}

// RedisGuard waits until it is known as what a Redis server may start, and
// returns the command for it.
func RedisGuard(ctx context.Context, cfg RedisGuardConfig) ([]string, error) {
	return redisfront.Guard(ctx, cfg)
}
