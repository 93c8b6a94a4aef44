// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisconn

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/rueidis"
)

// Errors of calls, besides those of the context.
var (
	// ErrMemory: the server refused a write because it is at its maxmemory.
	// Nothing was written.
	ErrMemory = errors.New("redis is at its maxmemory: raise it, or add a node")
	// ErrReplicas: a write was carried out, but fewer replicas than Options.Replicas
	// have it. It may get lost with its server.
	ErrReplicas = errors.New("written, but too few replicas have it")
)

// explain names the server, and the setting that is wrong where one is.
func (c *Conn) explain(err error) error {
	advice := c.advice(err)
	switch {
	case errors.Is(advice, ErrMemory):
		return fmt.Errorf("redis %s: %w", c.name, ErrMemory)
	case advice != nil:
		return fmt.Errorf("redis %s: %w: %w", c.name, advice, err)
	}
	return fmt.Errorf("redis %s: %w", c.name, err)
}

// advice is nil if there is none.
func (c *Conn) advice(err error) error {
	answer, ok := errors.AsType[*rueidis.RedisError](err)
	if !ok {
		var plain tls.RecordHeaderError
		if errors.As(err, &plain) {
			return errors.New("the server speaks no TLS at this port: the address must begin with redis, not rediss")
		}
		return nil
	}
	text := answer.Error()
	for _, a := range []struct{ sign, advice string }{
		{"WRONGPASS", "user name or password in the address are wrong"},
		{"NOAUTH", "the server wants a password: put it into the address"},
		{"NOPERM", "the user in the address lacks a permission (ACL)"},
		{"MISCONF", "the server cannot write to its disk (stop-writes-on-bgsave-error)"},
		{"No such master", "the sentinels do not know the master named in the address"},
		{"MOVED", "the server is part of a cluster: the address must begin with redis+cluster"},
		{"CROSSSLOT", "the server is part of a cluster: the address must begin with redis+cluster"},
		{"DB index is out of range", "the server has no such database (databases)"},
		{"unknown command 'SENTINEL'", "this is no sentinel: the address must begin with redis, not redis+sentinel"},
		{"unknown command `SENTINEL`", "this is no sentinel: the address must begin with redis, not redis+sentinel"},
	} {
		if strings.Contains(text, a.sign) {
			return errors.New(a.advice)
		}
	}
	if strings.HasPrefix(text, "OOM") {
		return ErrMemory
	}
	return nil
}

// refused reports whether an answer means that the command was not carried out
// and that this node or this connection is the wrong one for now.
func refused(err *rueidis.RedisError) bool {
	text := err.Error()
	for _, prefix := range [...]string{"READONLY", "MASTERDOWN", "LOADING", "NOREPLICAS", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK"} {
		if strings.HasPrefix(text, prefix) {
			return true
		}
	}
	return false
}
