// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisconn

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/redis/rueidis"
)

// written calls a function instead of writing.
type written struct {
	net.Conn
	f func()
}

func (w written) Write(b []byte) (int, error) {
	w.f()
	return len(b), nil
}

// Whoever is ready to call goes first, if there is anybody; a lone call does not
// wait for others.
func TestWritesWaitForWhoIsReadyToCall(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const tries = 50
	for calls, want := range map[int]bool{1: false, 2: true} {
		under := make(places, calls)
		for range calls {
			under <- struct{}{}
		}
		first := 0
		for range tries {
			var called atomic.Bool
			done := make(chan struct{})
			go func() {
				called.Store(true)
				close(done)
			}()
			conn := sharing{written{f: func() {
				if called.Load() {
					first++
				}
			}}, under, nil}
			if _, err := conn.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			<-done
		}
		// The scheduler is fair: now and then it takes the writer first, or the other.
		if got := first > tries/2; got != want {
			t.Errorf("with %d calls under way: %d of %d times the other one was first", calls, first, tries)
		}
	}
}

func TestEveryConnectionIsASharingOne(t *testing.T) {
	c := &Conn{places: make(places, 1)}
	under := written{}
	gone := errors.New("gone")
	var o rueidis.ClientOption
	o.DialCtxFn = func(_ context.Context, addr string, _ *net.Dialer, _ *tls.Config) (net.Conn, error) {
		if addr == "gone" {
			return nil, gone
		}
		return &under, nil
	}
	c.share(&o)
	conn, err := o.DialCtxFn(t.Context(), "there", nil, nil)
	if s, ok := conn.(sharing); err != nil || !ok || s.Conn != net.Conn(&under) || s.calls != c.places {
		t.Errorf("%T, %v", conn, err)
	}
	if conn, err := o.DialCtxFn(t.Context(), "gone", nil, nil); conn != nil || !errors.Is(err, gone) {
		t.Errorf("%v, %v", conn, err)
	}
}
