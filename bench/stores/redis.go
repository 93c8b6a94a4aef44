// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/belay-ha/belay/bench/internal/peer"
	"github.com/belay-ha/belay/internal/redisconn"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/redisstore"
)

// rawScript has the server do what an update has it do when the expiry stays, and
// compares nothing.
const rawScript = `
redis.call('HGET', KEYS[1], 'h')
redis.call('PUBLISH', KEYS[2], ARGV[3])
redis.call('HSET', KEYS[1], 'h', ARGV[1], 'd', ARGV[2])
redis.call('HDEL', KEYS[1], 'p')
return '+'`

func (b *bench) openRedis(ctx context.Context) error {
	bin, err := peer.Find("redis-server", "valkey-server")
	if err != nil {
		return err
	}
	addr, err := peer.FreeAddr()
	if err != nil {
		return err
	}
	p, err := peer.Start(ctx, b.dir, "redis", addr, bin, "--bind", "127.0.0.1", "--port", peer.Port(addr), "--dir", b.dir, "--save", "", "--appendonly", "no")
	if err != nil {
		return err
	}
	b.defers(p.Stop)
	k, err := b.addServed(ctx, "redis", []string{addr}, func(at []string, _ bool) (session.Store, error) {
		store, err := redisstore.Open(ctx, "redis://"+at[0]+"/0", nil)
		if err == nil {
			b.defers(func() { _ = store.Close() })
		}
		return store, err
	})
	if err != nil {
		return err
	}

	raw, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, DisableCache: true})
	if err != nil {
		return err
	}
	b.defers(raw.Close)
	// The same by the store's own connection, settings and all: what is left of the
	// difference is the store's.
	conn, err := redisconn.Open(ctx, "redis://"+addr+"/0", nil)
	if err != nil {
		return err
	}
	b.defers(conn.Close)
	rec := record(encoded)
	value, script, own := string(session.AppendRecord(nil, &rec)), rueidis.NewLuaScript(rawScript), redisconn.NewScript(rawScript)
	notice := k.ids[0].Key() + " 1.1"
	head := fmt.Sprintf("%d 1.1 %d 0123456789abcdef", rec.Expires.UnixMilli(), rec.Seen.UnixMilli())
	all := func(answer rueidis.RedisResult) error {
		m, err := answer.AsStrMap()
		if err == nil && len(m) < 2 {
			err = fmt.Errorf("a session of %d fields", len(m))
		}
		return err
	}
	key := func(w int) string { return "belay:s:{" + k.ids[w].Key() + "}" }
	keys := func(w int) []string { return []string{"raw:" + strconv.Itoa(w), "raw:w"} }
	b.add(&subject{name: "rueidis", workers: workers, op: map[string]func(context.Context, int) error{
		"load": func(ctx context.Context, w int) error {
			return all(raw.Do(ctx, raw.B().Hgetall().Key(key(w)).Build()))
		},
		"update": func(ctx context.Context, w int) error {
			return script.Exec(ctx, raw, keys(w), []string{head, value, notice}).Error()
		},
	}})
	b.add(&subject{name: "redisconn", workers: workers, op: map[string]func(context.Context, int) error{
		"load": func(ctx context.Context, w int) error {
			return all(conn.On(ctx, "HGETALL", key(w)).RedisResult)
		},
		"update": func(ctx context.Context, w int) error {
			return conn.Script(ctx, own, keys(w), head, value, notice).Err()
		},
	}})
	b.sized = append(b.sized, sized{name: "redis", what: "server, used_memory", open: func(ctx context.Context, _ int) (session.Store, func(), error) {
		if _, err := command(addr, "FLUSHALL"); err != nil {
			return nil, nil, err
		}
		store, err := redisstore.Open(ctx, "redis://"+addr+"/0", nil)
		return store, func() { _ = store.Close() }, err
	}, used: func(context.Context) (int64, error) {
		text, err := command(addr, "INFO memory")
		if err != nil {
			return 0, err
		}
		_, rest, _ := strings.Cut(text, "used_memory:")
		line, _, _ := strings.Cut(rest, "\r")
		return strconv.ParseInt(line, 10, 64)
	}})
	return nil
}

// command sends a line, and returns the answer, of one line or of one string.
func command(addr, line string) (string, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(c, "%s\r\n", line); err != nil {
		return "", err
	}
	in := bufio.NewReader(c)
	first, err := in.ReadString('\n')
	if err != nil || !strings.HasPrefix(first, "$") {
		return first, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(first[1:]))
	if err != nil {
		return "", err
	}
	body := make([]byte, n)
	for read := 0; read < n; {
		k, err := in.Read(body[read:])
		if err != nil {
			return "", err
		}
		read += k
	}
	return string(body), nil
}
