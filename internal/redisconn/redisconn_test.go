// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisconn_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/belay-ha/belay/internal/redisconn"
	"github.com/belay-ha/belay/internal/servertest"
)

func open(t *testing.T, url string) *redisconn.Conn {
	t.Helper()
	return openWith(t, url, nil)
}

func openWith(t *testing.T, url string, opts *redisconn.Options) *redisconn.Conn {
	t.Helper()
	c, err := redisconn.Open(within(t, 20*time.Second), url, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func set(value string) func(rueidis.Builder) rueidis.Completed {
	return func(b rueidis.Builder) rueidis.Completed { return b.Set().Key("k").Value(value).Build() }
}

func get(b rueidis.Builder) rueidis.Completed { return b.Get().Key("k").Build() }

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestRestartedServerIsFoundAgain(t *testing.T) {
	r := servertest.StartRedis(t)
	c := open(t, r.URL())
	for i := range 3 {
		if err := c.Do(t.Context(), set(strconv.Itoa(i))).Err(); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		r.Kill()
		if err := c.Do(within(t, 50*time.Millisecond), set("lost")).Err(); err == nil {
			t.Fatal("a dead server took a write")
		}
		r.Restart()
	}
}

func TestFrozenServerDoesNotOutlastTheDeadline(t *testing.T) {
	r := servertest.StartRedis(t)
	c := open(t, r.URL())
	if err := c.Do(t.Context(), set("1")).Err(); err != nil {
		t.Fatal(err)
	}
	r.Freeze()
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			if err := c.Do(within(t, 300*time.Millisecond), set("2")).Err(); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want the deadline", err)
			}
		})
	}
	returned := make(chan struct{})
	go func() { wg.Wait(); close(returned) }()
	select {
	case <-returned: // while it is frozen still
	case <-time.After(20 * time.Second):
		t.Error("calls hang on a frozen server")
	}
	r.Thaw()
	if err := c.Do(within(t, 20*time.Second), set("3")).Err(); err != nil {
		t.Errorf("after the thaw: %v", err)
	}
}

func TestErrorOfTheCommandIsNotRetried(t *testing.T) {
	r := servertest.StartRedis(t)
	c := open(t, r.URL())
	if err := c.Do(t.Context(), set("text")).Err(); err != nil {
		t.Fatal(err)
	}
	sent := 0
	err := c.Do(t.Context(), func(b rueidis.Builder) rueidis.Completed { sent++; return b.Incr().Key("k").Build() }).Err()
	if err == nil || !strings.Contains(err.Error(), "not an integer") || sent != 1 {
		t.Errorf("got %v after %d sendings", err, sent)
	}
}

func TestAbsentValueIsNoError(t *testing.T) {
	c := open(t, servertest.StartRedis(t).URL())
	if err := c.Do(t.Context(), get).Err(); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestFullServerIsNamed(t *testing.T) {
	r := servertest.StartRedis(t, "--maxmemory", "1mb", "--maxmemory-policy", "noeviction")
	c := open(t, r.URL())
	var err error
	for i := 0; i < 100 && err == nil; i++ {
		err = c.Do(t.Context(), func(b rueidis.Builder) rueidis.Completed {
			return b.Set().Key(strconv.Itoa(i)).Value(strings.Repeat("x", 100_000)).Build()
		}).Err()
	}
	if !errors.Is(err, redisconn.ErrMemory) || !strings.Contains(err.Error(), r.Addr()) {
		t.Errorf("got %v, want ErrMemory with the address", err)
	}
}

func TestClosedConnection(t *testing.T) {
	c := open(t, servertest.StartRedis(t).URL())
	c.Close()
	c.Close()
	if err := c.Do(t.Context(), get).Err(); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want an error at once", err)
	}
}

func TestPasswordIsNeverShown(t *testing.T) {
	for _, url := range []string{
		"redis://me:secret@127.0.0.1:1/0", "redis://me:secret@127.0.0.1:1/x", "http://me:secret@127.0.0.1", "redis://me:secret@127.0.0.1:port", "redis://me:secret@[::1",
	} {
		_, err := redisconn.Open(within(t, 2*time.Second), url, nil)
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v", url, err)
		}
	}
}

// What is sent may lie in memory of the caller's, who may touch it again once the
// client is through with it.
func TestWhatWasSentIsGone(t *testing.T) {
	r := servertest.StartRedis(t)
	c := open(t, r.URL())
	for name, res := range map[string]redisconn.Result{
		"a command": c.Do(t.Context(), set("1")),
		"one key":   c.On(t.Context(), "GET", "k"),
		"no value":  c.On(t.Context(), "GET", "none"),
		"a script":  c.Script(t.Context(), setScript(), []string{"k"}, "2"),
	} {
		if res.Err() != nil || !res.Gone() {
			t.Errorf("%s: %v, gone %v after the answer", name, res.Err(), res.Gone())
		}
	}
	if res := c.On(t.Context(), "INCR", "k", "1"); res.Err() == nil || res.Gone() {
		t.Errorf("%v, gone %v: a server that finds fault may answer before it has read all", res.Err(), res.Gone())
	}
	r.Freeze()
	if res := c.Do(within(t, 200*time.Millisecond), set("3")); res.Err() == nil || res.Gone() {
		t.Errorf("%v, gone %v: without an answer it may lie in a queue", res.Err(), res.Gone())
	}
	r.Thaw()
	tries := 0
	res := c.Do(within(t, 20*time.Second), func(b rueidis.Builder) rueidis.Completed {
		switch tries++; tries {
		case 1:
			r.Kill()
		case 2:
			r.Restart()
		}
		return set("4")(b)
	})
	if res.Err() != nil || res.Gone() {
		t.Errorf("%v, gone %v after %d sendings: the first may lie in a queue", res.Err(), res.Gone(), tries)
	}
}

func TestInfosAreThoseOfEveryNode(t *testing.T) {
	r := servertest.StartRedis(t)
	c := open(t, r.URL())
	infos, err := c.Infos(t.Context())
	if err != nil || len(infos) != 1 || infos[r.Addr()]["role"] != "master" {
		t.Errorf("of one server: %d, %v", len(infos), err)
	}
	r.Must("ACL", "SETUSER", "me", "on", ">secret", "~*", "+@all", "-info")
	c = open(t, "redis://me:secret@"+r.Addr())
	if infos, err := c.Infos(t.Context()); err != nil || len(infos[r.Addr()]) != 0 {
		t.Errorf("to a user who may not ask: %v, %v", infos, err)
	}
}
