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

	"github.com/bradfitz/gomemcache/memcache"

	"github.com/belay-ha/belay/bench/internal/peer"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memcachedstore"
)

func (b *bench) startMemcached(ctx context.Context) (addr string, err error) {
	bin, err := peer.Find("memcached")
	if err != nil {
		return "", err
	}
	if addr, err = peer.FreeAddr(); err != nil {
		return "", err
	}
	p, err := peer.Start(ctx, b.dir, "memcached", addr, bin, "-l", "127.0.0.1", "-p", peer.Port(addr), "-U", "0", "-m", "1024", "-t", "2", "-u", "nobody")
	if err == nil {
		b.defers(p.Stop)
	}
	return addr, err
}

func (b *bench) openMemcached(ctx context.Context) error {
	var addrs [2]string
	for i := range addrs {
		var err error
		if addrs[i], err = b.startMemcached(ctx); err != nil {
			return err
		}
	}
	for copies := 1; copies <= 2; copies++ {
		_, err := b.addServed(ctx, fmt.Sprintf("memcached_%d", copies), addrs[:copies], func(at []string, relayed bool) (session.Store, error) {
			store, err := memcachedstore.Open(ctx, "memcached://"+strings.Join(at, ","), &memcachedstore.Options{
				Copies: copies, Prefix: fmt.Sprintf("b%d%t:", copies, relayed),
			})
			if err == nil {
				b.defers(func() { _ = store.Close() })
			}
			return store, err
		})
		if err != nil {
			return err
		}
	}
	raw := memcache.New(addrs[0])
	raw.MaxIdleConns, raw.Timeout = workers, 5*time.Second
	b.defers(func() { _ = raw.Close() })
	rec := record(encoded)
	value := session.AppendRecord(nil, &rec)
	key := func(w int) string { return "raw:" + strconv.Itoa(w) }
	for w := range workers {
		if err := raw.Set(&memcache.Item{Key: key(w), Value: value, Expiration: 3600}); err != nil {
			return err
		}
	}
	b.add(&subject{name: "gomemcache", workers: workers, op: map[string]func(context.Context, int) error{
		"load": func(_ context.Context, w int) error {
			_, err := raw.Get(key(w))
			return err
		},
		"update": func(_ context.Context, w int) error { // it learns the CAS number from a get alone
			item, err := raw.Get(key(w))
			if err != nil {
				return err
			}
			item.Value, item.Expiration = value, 3600
			return raw.CompareAndSwap(item)
		},
	}})
	b.sized = append(b.sized, sized{name: "memcached", what: "server, one copy", open: func(ctx context.Context, _ int) (session.Store, func(), error) {
		store, err := memcachedstore.Open(ctx, "memcached://"+addrs[0], &memcachedstore.Options{Copies: 1})
		return store, func() { _ = store.Close() }, err
	}, used: func(context.Context) (int64, error) { return chunks(addrs[0]) }})
	return nil
}

// chunks is what memcached's items take in its slabs.
func chunks(addr string) (sum int64, err error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if _, err := fmt.Fprint(c, "stats slabs\r\n"); err != nil {
		return 0, err
	}
	size := map[string]int64{}
	in := bufio.NewScanner(c)
	for in.Scan() && in.Text() != "END" {
		f := strings.Fields(in.Text())
		if len(f) != 3 {
			continue
		}
		class, what, ok := strings.Cut(f[1], ":")
		n, err := strconv.ParseInt(f[2], 10, 64)
		switch {
		case !ok || err != nil:
		case what == "chunk_size":
			size[class] = n
		case what == "used_chunks":
			sum += n * size[class]
		}
	}
	return sum, in.Err()
}
