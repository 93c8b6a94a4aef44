// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcache_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/belay-ha/belay/internal/memcache"
	"github.com/belay-ha/belay/internal/servertest"
)

const benchWorkers = 16 // for each of GOMAXPROCS

func BenchmarkGet(b *testing.B) {
	c := client(b, servertest.StartMemcached(b).Addr(), nil)
	if _, err := c.Set(b.Context(), "key", make([]byte, 1700), hour); err != nil {
		b.Fatal(err)
	}
	for _, workers := range []int{1, benchWorkers} {
		b.Run(fmt.Sprint("workers=", workers), func(b *testing.B) {
			b.ReportAllocs()
			if workers == 1 {
				for b.Loop() {
					get(b, c)
				}
				return
			}
			b.SetParallelism(workers)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					get(b, c)
				}
			})
		})
	}
}

func get(b *testing.B, c *memcache.Client) {
	if _, err := c.Get(b.Context(), "key"); err != nil {
		b.Error(err)
	}
}

func BenchmarkSwap(b *testing.B) {
	c := client(b, servertest.StartMemcached(b).Addr(), nil)
	value := make([]byte, 1700)
	b.SetParallelism(benchWorkers)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		key := fmt.Sprintf("%p", pb)
		cas, err := c.Add(b.Context(), key, value, hour)
		for pb.Next() && err == nil {
			cas, err = c.CompareAndSwap(b.Context(), key, value, hour, cas)
		}
		if err != nil {
			b.Error(err)
		}
	})
}

// BenchmarkGetOneAtATime is the yardstick: a connection for each worker, on which
// the worker writes its request and reads its answer.
func BenchmarkGetOneAtATime(b *testing.B) {
	addr := servertest.StartMemcached(b).Addr()
	c := client(b, addr, nil)
	if _, err := c.Set(b.Context(), "key", make([]byte, 1700), hour); err != nil {
		b.Fatal(err)
	}
	b.SetParallelism(benchWorkers)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			b.Error(err)
			return
		}
		defer conn.Close()
		r := bufio.NewReader(conn)
		for pb.Next() {
			_, err := io.WriteString(conn, "gets key\r\n")
			head, err2 := r.ReadString('\n')
			_, err3 := io.ReadFull(r, make([]byte, 1700))
			_, err4 := r.Discard(len("\r\nEND\r\n"))
			if err != nil || err2 != nil || err3 != nil || err4 != nil || !strings.HasPrefix(head, "VALUE") {
				b.Errorf("%q %v %v %v %v", head, err, err2, err3, err4)
				return
			}
		}
	})
}
