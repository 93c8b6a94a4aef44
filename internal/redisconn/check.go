// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisconn

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/rueidis"
)

// What a server must be to be used.
const (
	oldestMajor = 6
	oldestMinor = 2
)

// check refuses a server that cannot be used, and waits for one that is about to
// become usable: a replica that is being promoted, one that loads its data.
func (c *Conn) check(ctx context.Context) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		info, err := c.info(ctx)
		if err != nil {
			return err
		}
		if err := c.version(info); err != nil {
			return err
		}
		problem := c.role(info)
		if problem == nil {
			return nil
		}
		if info["role"] != "slave" || wait(ctx, pause) != nil {
			return fmt.Errorf("redis %s: %w", c.name, problem)
		}
	}
}

// info is INFO, or empty if the user may not ask.
func (c *Conn) info(ctx context.Context) (map[string]string, error) {
	res := c.Do(ctx, func(b rueidis.Builder) rueidis.Completed { return b.Info().Build() })
	if err, ok := rueidis.IsRedisErr(res.RedisResult.Error()); ok && strings.HasPrefix(err.Error(), "NOPERM") {
		return nil, nil
	}
	if err := res.Err(); err != nil {
		return nil, err
	}
	text, err := res.ToString()
	if err != nil {
		return nil, c.explain(err)
	}
	return fields(text), nil
}

// Infos is INFO of the server, or of every node of a cluster that answers, by
// address: empty if the user may not ask.
func (c *Conn) Infos(ctx context.Context) (map[string]map[string]string, error) {
	if c.form != cluster {
		info, err := c.info(ctx)
		return map[string]map[string]string{c.name: info}, err
	}
	all := make(map[string]map[string]string)
	for addr, node := range c.current().Nodes() {
		if text, err := node.Do(ctx, node.B().Info().Build()).ToString(); err == nil {
			all[addr] = fields(text)
		}
	}
	return all, ctx.Err()
}

// fields reads lines "name:value".
func fields(text string) map[string]string {
	m := make(map[string]string)
	for line := range strings.SplitSeq(text, "\r\n") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			m[name] = value
		}
	}
	return m
}

func (c *Conn) version(info map[string]string) error {
	text := info["redis_version"]
	major, rest, _ := strings.Cut(text, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, err1 := strconv.Atoi(major)
	b, err2 := strconv.Atoi(minor)
	if err1 != nil || err2 != nil { // it does not say
		return nil
	}
	if a < oldestMajor || a == oldestMajor && b < oldestMinor {
		return fmt.Errorf("redis %s: version %s is too old: want %d.%d or newer", c.name, text, oldestMajor, oldestMinor)
	}
	return nil
}

// role: the address of one server may be that of a replica. Sentinels name a
// master, and a cluster's client finds them.
func (c *Conn) role(info map[string]string) error {
	switch {
	case info["redis_mode"] == "cluster" && c.form != cluster:
		return errors.New("the server is part of a cluster: the address must begin with redis+cluster")
	case info["redis_mode"] == "sentinel" && c.form != sentinel:
		return errors.New("this is a sentinel: the address must begin with redis+sentinel, and end with the master's name")
	case info["redis_mode"] == "standalone" && c.form == cluster:
		return errors.New("the server is no part of a cluster: the address must begin with redis, not redis+cluster")
	case c.form == cluster:
		return nil
	case info["role"] == "slave":
		return fmt.Errorf("the server is a replica and takes no writes: the address must be that of its master, %s:%s, or of sentinels (redis+sentinel)",
			info["master_host"], info["master_port"])
	}
	return nil
}
