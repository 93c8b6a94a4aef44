// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcache_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-ha/belay/internal/memcache"
)

// script plays a server: it gets each connection once it is greeted.
type script func(conn net.Conn, r *bufio.Reader)

// scripted makes options whose Dial leads to the script.
func scripted(t *testing.T, dials *atomic.Int64, play script) *memcache.Options {
	return raw(t, dials, func(conn net.Conn, r *bufio.Reader) {
		for _, answer := range []string{"VERSION 1.6.18\r\n", "STAT item_size_max 1048576\r\nEND\r\n"} {
			if line(r) == "" {
				return
			}
			say(conn, "%s", answer)
		}
		play(conn, r)
	})
}

func raw(t *testing.T, dials *atomic.Int64, play script) *memcache.Options {
	t.Helper()
	return &memcache.Options{
		Connections: 1,
		Dial: func(context.Context, string, string) (net.Conn, error) {
			if dials != nil {
				dials.Add(1)
			}
			ours, theirs := net.Pipe()
			go func() {
				defer theirs.Close()
				play(theirs, bufio.NewReader(theirs))
			}()
			return ours, nil
		},
	}
}

// line is "" once the client has gone.
func line(r *bufio.Reader) string {
	s, _ := r.ReadString('\n')
	return strings.TrimSpace(s)
}

func say(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }

// number is the sequence number of a request.
func number(request string) string {
	_, after, _ := strings.Cut(request, " O")
	n, _, _ := strings.Cut(after, " ")
	return n
}

// idle waits until the client has gone.
func idle(r *bufio.Reader) { _, _ = io.Copy(io.Discard, r) }

func TestAnswersThatAreNotExpected(t *testing.T) {
	t.Parallel()
	get := func(c *memcache.Client, ctx context.Context) error { return second(c.Get(ctx, "k")) }
	set := func(c *memcache.Client, ctx context.Context) error {
		return second(c.Set(ctx, "k", []byte("v"), hour))
	}
	touch := func(c *memcache.Client, ctx context.Context) error { return second(c.Touch(ctx, "k", hour)) }
	del := func(c *memcache.Client, ctx context.Context) error { return c.Delete(ctx, "k") }
	multi := func(c *memcache.Client, ctx context.Context) error { return second(c.GetMulti(ctx, "a", "b")) }
	version := func(c *memcache.Client, ctx context.Context) error { return second(c.Version(ctx)) }
	stats := func(c *memcache.Client, ctx context.Context) error { return second(c.Stats(ctx, "")) }
	for _, tt := range []struct {
		name   string
		call   func(*memcache.Client, context.Context) error
		answer string // N is the request's number
		writes bool
	}{
		{"another_number", get, "VA 6 c1 t1 O99\r\nsecret\r\n", false},
		{"no_number", get, "VA 6 c1 t1\r\nsecret\r\n", false},
		{"miss_of_another", get, "EN O99\r\n", false},
		{"done_without_value", get, "HD ON\r\n", false},
		{"value_too_long", get, "VA 3 ON\r\nsecret\r\n", false},
		{"value_too_large", get, "VA 1048577 ON\r\n", false},
		{"no_size", get, "VA secret ON\r\n", false},
		{"a_value_where_a_line_is_due", get, "secret\r\n", false},
		{"no_carriage_return", get, "EN ON\n", false},
		{"endless_line", get, strings.Repeat("secret", 10_000) + "\r\n", false},
		{"old_protocol", get, "VALUE k 0 6\r\nsecret\r\nEND\r\n", false},
		{"redis", get, "-ERR unknown command\r\n", false},
		{"unknown_command", set, "ERROR\r\n", true},
		{"refused_line", set, "CLIENT_ERROR bad data chunk\r\n", true},
		{"value_for_a_set", set, "VA 6 ON\r\nsecret\r\n", true},
		{"miss_code_for_a_set", set, "EN ON\r\n", true},
		{"not_stored_for_a_delete", del, "NS ON\r\n", true},
		{"value_for_a_touch", touch, "VA 6 ON\r\nsecret\r\n", true},
		{"key_not_asked", multi, "VA 6 O99\r\nsecret\r\nMN\r\n", false},
		{"key_twice", multi, "VA 1 ON\r\nx\r\nVA 1 ON\r\ny\r\nMN\r\n", false},
		{"code_in_several", multi, "HD ON\r\n", false},
		{"version", version, "MN\r\n", false},
		{"stats", stats, "STAT a b\r\nVERSION 1\r\n", false},
		{"closed", get, "", false},
		{"closed_after_a_write", set, "", true},
		{"closed_within_a_value", get, "VA 6 ON\r\nse", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx := within(t, 20*time.Second)
			var dials atomic.Int64
			c := client(t, "node:11211", scripted(t, &dials, func(conn net.Conn, r *bufio.Reader) {
				request := line(r)
				if dials.Load() > 1 {
					say(conn, "EN O%s\r\n", number(request))
					idle(r)
					return
				}
				go idle(r)
				say(conn, "%s", strings.ReplaceAll(tt.answer, "N", numberOrN(request, tt.answer)))
			}))
			err := tt.call(c, ctx)
			if !errors.Is(err, memcache.ErrUnavailable) || errors.Is(err, memcache.ErrUnknown) != tt.writes {
				t.Errorf("%v", err)
			}
			if strings.HasPrefix(tt.name, "closed") == errors.Is(err, memcache.ErrProtocol) {
				t.Errorf("%v", err)
			}
			if err != nil && (strings.Contains(err.Error(), "secret") || len(err.Error()) > 300) {
				t.Errorf("the error repeats a value: %v", err)
			}
			if _, err := c.Get(ctx, "k"); err != memcache.ErrMiss || dials.Load() != 2 {
				t.Errorf("the next call: %v, %d connections", err, dials.Load())
			}
		})
	}
}

// numberOrN leaves words like EN alone.
func numberOrN(request, answer string) string {
	if !strings.Contains(answer, "ON\r\n") && !strings.Contains(answer, "ON\n") {
		return "N"
	}
	return number(request)
}

func TestServerErrorsKeepTheConnection(t *testing.T) {
	t.Parallel()
	var dials atomic.Int64
	answers := []string{
		"SERVER_ERROR out of memory storing object", "SERVER_ERROR object too large for cache",
		"SERVER_ERROR out of memory writing get response", "SERVER_ERROR backend failure", "SERVER_ERROR", "SERVER_ERROR out of memory\r\nMN",
	}
	c := client(t, "node:11211", scripted(t, &dials, func(conn net.Conn, r *bufio.Reader) {
		for _, a := range answers {
			if strings.HasPrefix(line(r), "ms") {
				line(r)
			}
			say(conn, "%s\r\n", a)
		}
		line(r)
		say(conn, "EN O%s\r\n", number(line(r)))
		idle(r)
	}))
	ctx := within(t, 20*time.Second)
	if err := second(c.Set(ctx, "k", nil, hour)); !errors.Is(err, memcache.ErrFull) {
		t.Error(err)
	}
	if err := second(c.Set(ctx, "k", nil, hour)); !errors.Is(err, memcache.ErrTooLarge) || !strings.Contains(err.Error(), "gone") {
		t.Error(err)
	}
	if err := second(c.Get(ctx, "k")); !errors.Is(err, memcache.ErrUnavailable) || !strings.Contains(err.Error(), "writing get response") {
		t.Error(err)
	}
	if err := second(c.Set(ctx, "k", nil, hour)); !errors.Is(err, memcache.ErrUnknown) {
		t.Error(err)
	}
	if err := c.Delete(ctx, "k"); !errors.Is(err, memcache.ErrUnknown) {
		t.Error(err)
	}
	if err := second(c.GetMulti(ctx, "k")); !errors.Is(err, memcache.ErrUnavailable) {
		t.Error(err)
	}
	if err := second(c.Get(ctx, "k")); err != memcache.ErrMiss || dials.Load() != 1 {
		t.Errorf("%v, %d connections", err, dials.Load())
	}
}

// The answer comes after its caller has left, and the next caller's after it.
func TestAnswerOfACancelledCallIsThrownAway(t *testing.T) {
	t.Parallel()
	var dials atomic.Int64
	received, answer := make(chan struct{}), make(chan struct{})
	c := client(t, "node:11211", scripted(t, &dials, func(conn net.Conn, r *bufio.Reader) {
		first := line(r)
		close(received)
		<-answer
		next := line(r)
		say(conn, "VA 3 c1 t1 O%s\r\nold\r\nVA 3 c2 t1 O%s\r\nnew\r\n", number(first), number(next))
		idle(r)
	}))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- second(c.Get(ctx, "first")) }()
	<-received
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || errors.Is(err, memcache.ErrUnknown) {
		t.Errorf("%v", err)
	}
	close(answer)
	it, err := c.Get(within(t, 20*time.Second), "next")
	if err != nil || string(it.Value) != "new" || dials.Load() != 1 {
		t.Errorf("%q, %v, %d connections", it.Value, err, dials.Load())
	}
}

func TestSilenceEndsAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := client(t, "node:11211", scripted(t, nil, func(_ net.Conn, r *bufio.Reader) { idle(r) }))
		begin := time.Now()
		err := second(c.Add(context.Background(), "k", nil, hour))
		if !errors.Is(err, memcache.ErrUnknown) || !errors.Is(err, memcache.ErrUnavailable) || !strings.Contains(err.Error(), "silent") {
			t.Errorf("%v", err)
		}
		if took := time.Since(begin); took != time.Second {
			t.Errorf("given up after %v", took)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		begin = time.Now()
		if err := second(c.Add(ctx, "k", nil, hour)); !errors.Is(err, memcache.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if took := time.Since(begin); took != 300*time.Millisecond {
			t.Errorf("the deadline was kept by %v", took)
		}
		begin = time.Now()
		until := c.Until(begin.Add(300 * time.Millisecond))
		if err := second(until.Add(context.Background(), "k", nil, nil, hour)); !errors.Is(err, memcache.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("until: %v", err)
		}
		if took := time.Since(begin); took != 300*time.Millisecond {
			t.Errorf("the time was kept by %v", took)
		}
		_ = c.Close()
	})
}

func TestSlowAnswerIsNoSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := client(t, "node:11211", scripted(t, nil, func(conn net.Conn, r *bufio.Reader) {
			for { // idle for a while between requests, too
				request := line(r)
				if request == "" {
					return
				}
				for _, part := range []string{"VA 4", " O" + number(request) + "\r\n", "sl", "ow", "\r\n"} {
					time.Sleep(900 * time.Millisecond)
					say(conn, "%s", part)
				}
			}
		}))
		for range 3 {
			if it, err := c.Get(context.Background(), "k"); err != nil || string(it.Value) != "slow" {
				t.Errorf("%q, %v", it.Value, err)
			}
			time.Sleep(time.Minute)
		}
		_ = c.Close()
	})
}

// What does not fit is not sent: the server would remove the entry that is there.
func TestTheLargestValueIsSentAndNoLarger(t *testing.T) {
	t.Parallel()
	const itemSize, overhead = 1024, len("k") + 80
	for name, tt := range map[string]struct{ maxValue, most int }{
		"MaxValue":         {10, 10},
		"the_servers_size": {itemSize, itemSize - overhead},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := raw(t, nil, func(conn net.Conn, r *bufio.Reader) {
				for _, answer := range []string{"VERSION 1.6.18\r\n", fmt.Sprintf("STAT item_size_max %d\r\nEND\r\n", itemSize)} {
					line(r)
					say(conn, "%s", answer)
				}
				for request := line(r); request != ""; request = line(r) {
					line(r)
					say(conn, "HD c1 O%s\r\n", number(request))
				}
			})
			o.MaxValue = tt.maxValue
			c := client(t, "node:11211", o)
			ctx := within(t, 20*time.Second)
			value := bytes.Repeat([]byte{'v'}, tt.most+1)
			if err := second(c.Set(ctx, "k", value[1:], hour)); err != nil {
				t.Errorf("%d bytes: %v", tt.most, err)
			}
			if err := second(c.Set(ctx, "k", value, hour)); !errors.Is(err, memcache.ErrTooLarge) {
				t.Errorf("%d bytes: %v, want ErrTooLarge", tt.most+1, err)
			}
		})
	}
}

// broken is a connection that takes nothing any more, and still waits for answers.
type broken struct {
	net.Conn
	now *atomic.Bool
}

func (b broken) Write(p []byte) (int, error) {
	if b.now.Load() {
		return 0, errors.New("broken pipe")
	}
	return b.Conn.Write(p)
}

func TestAWriteThatFailsEndsTheConnectionAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now atomic.Bool
		var dials atomic.Int64
		o := scripted(t, &dials, func(conn net.Conn, r *bufio.Reader) {
			for request := line(r); request != ""; request = line(r) {
				say(conn, "EN O%s\r\n", number(request))
			}
		})
		pipe := o.Dial
		o.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			now.Store(false)
			conn, err := pipe(ctx, network, addr)
			return broken{conn, &now}, err
		}
		c := client(t, "node:11211", o)
		if err := second(c.Get(t.Context(), "k")); err != memcache.ErrMiss {
			t.Fatal(err)
		}
		now.Store(true)
		began := time.Now()
		err := second(c.Get(t.Context(), "k"))
		if took := time.Since(began); !errors.Is(err, memcache.ErrUnavailable) || !strings.Contains(err.Error(), "broken pipe") || took != 0 {
			t.Errorf("%v, after %v", err, took)
		}
		if err := second(c.Get(t.Context(), "k")); err != memcache.ErrMiss || dials.Load() != 2 {
			t.Errorf("the next call: %v, %d connections", err, dials.Load())
		}
		_ = c.Close()
	})
}

// Silence begins with the question, not with the answer before.
func TestIdlenessIsNoSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dials atomic.Int64
		c := client(t, "node:11211", scripted(t, &dials, func(conn net.Conn, r *bufio.Reader) {
			for _, pause := range []time.Duration{100 * time.Millisecond, 900 * time.Millisecond} {
				request := line(r)
				time.Sleep(pause)
				say(conn, "EN O%s\r\n", number(request))
			}
			idle(r)
		}))
		for range 2 {
			if err := second(c.Get(t.Context(), "k")); err != memcache.ErrMiss {
				t.Error(err)
			}
			time.Sleep(800 * time.Millisecond) // while the first one is watched still
		}
		if dials.Load() != 1 {
			t.Errorf("%d connections", dials.Load())
		}
		_ = c.Close()
	})
}

func TestConnectionsAreTriedAgainWithPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dials, up := 0, false
		o := scripted(t, nil, func(conn net.Conn, r *bufio.Reader) {
			for request := line(r); request != ""; request = line(r) {
				say(conn, "EN O%s\r\n", number(request))
			}
		})
		pipe := o.Dial
		o.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials++
			if !up {
				return nil, errors.New("connection refused")
			}
			return pipe(ctx, network, addr)
		}
		c := client(t, "node:11211", o)
		for range 1000 {
			err := second(c.Get(t.Context(), "k"))
			if !errors.Is(err, memcache.ErrUnavailable) || !strings.Contains(err.Error(), "refused") {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if dials < 20 || dials > 60 { // 10 s, pauses of 250 to 500 ms at last
			t.Errorf("%d dials in 10 s", dials)
		}
		up = true
		time.Sleep(500 * time.Millisecond)
		if err := second(c.Get(t.Context(), "k")); err != memcache.ErrMiss {
			t.Errorf("half a second after it is up: %v", err)
		}
		_ = c.Close()
	})
}

func TestFullPipelineWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := scripted(t, nil, func(conn net.Conn, r *bufio.Reader) {
			time.Sleep(500 * time.Millisecond)
			for request := line(r); request != ""; request = line(r) {
				say(conn, "EN O%s\r\n", number(request))
			}
		})
		o.MaxPending = 2
		c := client(t, "node:11211", o)
		done := make(chan error, 3)
		for range 2 {
			go func() { done <- second(c.Get(context.Background(), "k")) }()
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if err := second(c.Set(ctx, "k", nil, hour)); !errors.Is(err, memcache.ErrBusy) || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, memcache.ErrUnknown) {
			t.Errorf("no room: %v", err)
		}
		until := c.Until(time.Now().Add(100 * time.Millisecond))
		if err := second(until.CompareAndSwap(context.Background(), "k", nil, nil, hour, 1)); !errors.Is(err, memcache.ErrBusy) || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, memcache.ErrUnknown) {
			t.Errorf("no room until: %v", err)
		}
		go func() { done <- second(c.Get(context.Background(), "k")) }()
		for range 3 {
			if err := <-done; err != memcache.ErrMiss {
				t.Errorf("%v", err)
			}
		}
		for range 3 { // the time of an earlier call ends none of these
			if err := second(c.Until(time.Now().Add(hour)).Get(context.Background(), "k")); err != memcache.ErrMiss {
				t.Errorf("%v", err)
			}
		}
		_ = c.Close()
	})
}

// One request is being written when the connection ends; the other never was.
func TestUnsentRequestGoesOverANewConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dials atomic.Int64
		c := client(t, "node:11211", scripted(t, &dials, func(conn net.Conn, r *bufio.Reader) {
			if dials.Load() == 1 {
				time.Sleep(100 * time.Millisecond) // reads nothing: the pipe has no buffer
				return
			}
			request := line(r)
			line(r)
			say(conn, "HD c5 O%s\r\n", number(request))
			idle(r)
		}))
		first := make(chan error, 1)
		go func() { first <- second(c.Set(context.Background(), "k", []byte("1"), hour)) }()
		synctest.Wait()
		cas, err := c.Set(context.Background(), "k", []byte("2"), hour)
		if cas != 5 || err != nil || dials.Load() != 2 {
			t.Errorf("the unsent one: %d, %v, %d connections", cas, err, dials.Load())
		}
		if err := <-first; !errors.Is(err, memcache.ErrUnknown) {
			t.Errorf("the one being sent: %v", err)
		}
		_ = c.Close()
	})
}

// slowEnd is a connection whose reader takes a while to notice that it is closed.
type slowEnd struct {
	net.Conn
	ended *atomic.Bool
}

func (c slowEnd) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		time.Sleep(time.Minute)
		c.ended.Store(true)
	}
	return n, err
}

func TestCloseWaitsForItsGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := scripted(t, nil, func(_ net.Conn, r *bufio.Reader) { idle(r) })
		pipe := o.Dial
		var ended atomic.Bool
		o.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := pipe(ctx, network, addr)
			return slowEnd{conn, &ended}, err
		}
		c := client(t, "node:11211", o)
		go func() { _, _ = c.Get(context.Background(), "k") }()
		synctest.Wait()
		if _ = c.Close(); !ended.Load() {
			t.Error("Close returned while its reader was running")
		}
	})
}

// A server at its connection limit serves who is in already.
func TestOneConnectionIsEnough(t *testing.T) {
	t.Parallel()
	var dials atomic.Int64
	o := scripted(t, &dials, func(conn net.Conn, r *bufio.Reader) {
		for request := line(r); request != ""; request = line(r) {
			say(conn, "EN O%s\r\n", number(request))
		}
	})
	o.Connections = 3
	pipe := o.Dial
	o.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if dials.Load() > 0 {
			return nil, errors.New("connection refused")
		}
		return pipe(ctx, network, addr)
	}
	c := client(t, "node:11211", o)
	for range 100 {
		if err := second(c.Get(t.Context(), "k")); err != memcache.ErrMiss {
			t.Fatal(err)
		}
	}
}

func TestGreetings(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, says string
		want       error
		text       string
	}{
		{"redis", "-ERR unknown command 'version'\r\n", memcache.ErrProtocol, ""},
		{"too_old", "VERSION 1.5.22\r\n", memcache.ErrProtocol, "1.6"},
		{"limit", "ERROR Too many open connections\r\n", memcache.ErrBusy, "-c"},
		{"wants_a_user", "CLIENT_ERROR unauthenticated\r\n", memcache.ErrAuth, "User"},
		{"closed", "", memcache.ErrUnavailable, "closed"},
		{"endless", strings.Repeat("x", 1<<20), memcache.ErrProtocol, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := client(t, "node:11211", raw(t, nil, func(conn net.Conn, r *bufio.Reader) {
				line(r)
				say(conn, "%s", tt.says)
			}))
			err := second(c.Get(within(t, 20*time.Second), "k"))
			if !errors.Is(err, tt.want) || !errors.Is(err, memcache.ErrUnavailable) || !strings.Contains(err.Error(), tt.text) || len(err.Error()) > 300 {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestSilentGreetingEndsAtConnectTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := raw(t, nil, func(_ net.Conn, r *bufio.Reader) { idle(r) })
		o.ConnectTimeout = 3 * time.Second
		c := client(t, "node:11211", o)
		begin := time.Now()
		short, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := second(c.Set(short, "k", nil, hour)); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, memcache.ErrUnknown) || time.Since(begin) != time.Second {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
		if err := second(c.Until(begin.Add(2*time.Second)).Get(context.Background(), "k")); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != 2*time.Second {
			t.Errorf("until, after %v: %v", time.Since(begin), err)
		}
		err := second(c.Get(context.Background(), "k")) // joins the same dial
		if !errors.Is(err, memcache.ErrUnavailable) || !strings.Contains(err.Error(), "ConnectTimeout") || time.Since(begin) != 3*time.Second {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
		_ = c.Close()
	})
}
