// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisconn

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/rueidis"
)

// The name in an address may have come to mean another server, and the old one
// still be there, as a replica.
func TestARefusedCallIsSentAgainOnANewConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const others, calls = 2, 20
		var dials, ended atomic.Int32
		dial := pipe(func(conn net.Conn) {
			n := dials.Add(1)
			serve(conn, func(command string) string {
				if n <= others && command == "GET" {
					time.Sleep(10 * time.Millisecond) // some answers come after the next connection
					return "-READONLY You can't write against a read only replica.\r\n"
				}
				return "+OK\r\n"
			})
			ended.Add(1)
		})
		c := connect(t, func() (net.Conn, error) {
			time.Sleep(calls / 2 * 10 * time.Millisecond) // and some before it
			return dial()
		})
		defer c.Close()
		var under sync.WaitGroup
		for range calls {
			under.Go(func() {
				if err := get(t.Context(), c); err != nil {
					t.Error(err)
				}
			})
		}
		under.Wait()
		synctest.Wait()
		if dials.Load() != others+1 || ended.Load() != others {
			t.Errorf("%d connections, of which %d ended; want one more than the %d that refused, and those ended", dials.Load(), ended.Load(), others)
		}
	})
}

// Sentinels are asked at once who the master is; a cluster's client knows.
func TestWhatARefusalMeansElsewhere(t *testing.T) {
	for form, kicks := range map[form]int{sentinel: 1, cluster: 0} {
		c := &Conn{target: target{form: form}, kick: make(chan struct{}, 1)}
		for range 3 { // nobody has to be looking
			c.replace(nil)
		}
		c.retired.Wait()
		if len(c.kick) != kicks || c.client != nil {
			t.Errorf("form %d: %d kicks, want %d; client %v", form, len(c.kick), kicks, c.client)
		}
	}
}

// What comes of a command that is sent twice may be the first one's doing; if
// there was no connection to send it on, it was not sent.
func TestRepeatedIsWhatMayHaveBeenDoneBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var drop, down atomic.Bool
		dial := pipe(func(conn net.Conn) {
			serve(conn, func(command string) string {
				if command == "GET" && drop.Swap(false) {
					conn.Close()
				}
				return "+OK\r\n"
			})
		})
		c := connect(t, func() (net.Conn, error) {
			if down.Load() {
				return nil, &net.OpError{Op: "dial", Err: errors.New("refused")}
			}
			return dial()
		})
		defer c.Close()
		call := func(ctx context.Context) Result {
			return c.Do(ctx, func(b rueidis.Builder) rueidis.Completed { return b.Get().Key("k").Build() })
		}
		drop.Store(true)
		if res := call(t.Context()); res.Err() != nil || !res.Repeated {
			t.Errorf("its connection was lost: repeated %v, %v", res.Repeated, res.Err())
		}
		drop.Store(true)
		down.Store(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if res := call(ctx); res.Err() == nil || !res.Repeated {
			t.Errorf("and there was no other: repeated %v, %v", res.Repeated, res.Err())
		}
		time.AfterFunc(time.Second, func() { down.Store(false) })
		if res := call(t.Context()); res.Err() != nil || res.Repeated {
			t.Errorf("there was none at first: repeated %v, %v", res.Repeated, res.Err())
		}
	})
}
