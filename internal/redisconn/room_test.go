// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisconn

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/rueidis"
)

// silencer is a server that can fall silent. It answers whatever it is asked with OK.
type silencer struct{ silent atomic.Bool }

func (s *silencer) serve(conn net.Conn) {
	serve(conn, func(string) string {
		if s.silent.Load() {
			return ""
		}
		return "+OK\r\n"
	})
}

// serve answers what a client of ours asks, if it is told what to.
func serve(conn net.Conn, answer func(command string) string) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		command, err := readCommand(in)
		if err != nil {
			return
		}
		text := answer(command)
		switch {
		case text == "":
			continue
		case command == "HELLO":
			text = "%2\r\n+version\r\n+7.0.0\r\n+proto\r\n:3\r\n"
		}
		if _, err := io.WriteString(conn, text); err != nil {
			return
		}
	}
}

// readCommand returns the first word of a command.
func readCommand(in *bufio.Reader) (first string, err error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return "", err
	}
	n, err := strconv.Atoi(strings.Trim(line, "*\r\n"))
	if err != nil {
		return "", err
	}
	for i := range n {
		if line, err = in.ReadString('\n'); err != nil {
			return "", err
		}
		size, err := strconv.Atoi(strings.Trim(line, "$\r\n"))
		if err != nil {
			return "", err
		}
		word := make([]byte, size+2)
		if _, err := io.ReadFull(in, word); err != nil {
			return "", err
		}
		if i == 0 {
			first = string(word[:size])
		}
	}
	return first, nil
}

func (s *silencer) connect(t *testing.T) *Conn { return connect(t, pipe(s.serve)) }

// pipe dials a server that is a function.
func pipe(serve func(net.Conn)) func() (net.Conn, error) {
	return func() (net.Conn, error) {
		ours, theirs := net.Pipe()
		go serve(theirs)
		return ours, nil
	}
}

func connect(t *testing.T, dial func() (net.Conn, error)) *Conn {
	t.Helper()
	c := &Conn{places: make(places, room), kick: make(chan struct{}, 1)}
	c.opts, _ = Options{}.withDefaults()
	c.option.InitAddress, c.option.ForceSingleClient = []string{"silencer"}, true
	c.tune(c.opts)
	c.option.DialCtxFn = func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) {
		return dial()
	}
	c.share(&c.option)
	client, err := rueidis.NewClient(c.option)
	if err != nil {
		t.Fatal(err)
	}
	c.client = client
	return c
}

func get(ctx context.Context, c *Conn) error {
	return c.Do(ctx, func(b rueidis.Builder) rueidis.Completed { return b.Get().Key("k").Build() }).Err()
}

// getInVain is a call that ends with its deadline.
func getInVain(t *testing.T, c *Conn, patience time.Duration) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	began := time.Now()
	if err := get(ctx, c); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if took := time.Since(began); took != patience {
		t.Errorf("a call took %v of %v", took, patience)
	}
}

// warm makes two calls together: the client has no queue, and looks after no
// connection, until then.
func warm(t *testing.T, c *Conn) {
	t.Helper()
	var calls sync.WaitGroup
	for range 2 {
		calls.Go(func() {
			if err := get(t.Context(), c); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
}

// fallenSilent is a server that answered, and does not any more.
func fallenSilent(t *testing.T) (*silencer, *Conn) {
	t.Helper()
	s := &silencer{}
	c := s.connect(t)
	warm(t, c)
	s.silent.Store(true)
	return s, c
}

// However many calls there are, and however many before them got no answer, none
// outlasts its deadline.
func TestCallsEndInTimeThoughTheClientIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := fallenSilent(t)
		defer c.Close()
		for _, patience := range []time.Duration{20 * time.Millisecond, 30 * time.Millisecond, 300 * time.Millisecond} {
			var calls sync.WaitGroup
			for range 2 * room {
				calls.Go(func() { getInVain(t, c, patience) })
			}
			calls.Wait()
		}
	})
}

// While one call makes a new connection, others that need it wait for it: but none
// longer than it may.
func TestCallsEndInTimeThoughAnotherConnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := fallenSilent(t)
		defer c.Close()
		time.Sleep(5 * time.Second) // the client notices
		var calls sync.WaitGroup
		for _, patience := range []time.Duration{300 * time.Millisecond, 20 * time.Millisecond} {
			calls.Go(func() { getInVain(t, c, patience) })
			synctest.Wait()
		}
		calls.Wait()
		s.silent.Store(false)
		time.Sleep(lingers)
		if err := get(t.Context(), c); err != nil {
			t.Error(err)
		}
		if c.breaks.Load() == 0 || c.whole.Load() != c.breaks.Load() {
			t.Errorf("of %d breaks %d are over", c.breaks.Load(), c.whole.Load())
		}
	})
}

// What lies in a silent client's places is forgotten once the client has noticed.
func TestCallsThatEndedGiveTheirPlacesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s silencer
		c := s.connect(t)
		defer c.Close()
		if err := get(t.Context(), c); err != nil || len(c.places) != 0 {
			t.Fatal(err, len(c.places))
		}
		s.silent.Store(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := get(ctx, c); err == nil || len(c.places) != 1 {
			t.Errorf("%v, and %d have a place", err, len(c.places))
		}
		time.Sleep(lingers + time.Millisecond)
		s.silent.Store(false)
		if err := get(t.Context(), c); err != nil || len(c.places) != 0 {
			t.Errorf("%v, and %d have a place", err, len(c.places))
		}
	})
}
