// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisfront_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
)

// conn is the least that a client of Redis needs.
type conn struct {
	net.Conn
	r *bufio.Reader
}

func dial(addr string) (*conn, error) {
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return &conn{c, bufio.NewReader(c)}, nil
}

// do sends commands in one write and returns the last answer as text.
func (c *conn) do(commands ...[]string) (string, error) {
	var b strings.Builder
	for _, words := range commands {
		fmt.Fprintf(&b, "*%d\r\n", len(words))
		for _, w := range words {
			fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(w), w)
		}
	}
	if _, err := io.WriteString(c, b.String()); err != nil {
		return "", err
	}
	var last string
	for range commands {
		var err error
		if last, err = c.answer(); err != nil {
			return "", err
		}
	}
	return last, nil
}

func (c *conn) answer() (string, error) {
	line, err := c.r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSpace(line)
	switch line[0] {
	case '-':
		return "", errors.New(line)
	case '$':
		n, _ := strconv.Atoi(line[1:])
		if n < 0 {
			return "", nil
		}
		b := make([]byte, n+2)
		_, err := io.ReadFull(c.r, b)
		return string(b[:n]), err
	}
	return line[1:], nil
}

// runID is the process at the other end.
func (c *conn) runID() (string, error) {
	text, err := c.do([]string{"INFO", "server"})
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(text, "run_id:")
	id, _, _ := strings.Cut(rest, "\r\n")
	return id, nil
}

// seen is when writes reached one process.
type seen struct{ lastSent, firstAcked time.Time }

// users write through fronts, each again and again to a key of his own, and
// remember what was acknowledged. Every second one WAITs for a replica.
type users struct {
	t     *testing.T
	addrs []string
	n     int
	stop  chan struct{}
	wg    sync.WaitGroup

	mu     sync.Mutex
	acked  []int // by user, the last number acknowledged
	runs   map[string]*seen
	errs   map[string]int
	writes int
	gap    time.Duration // the longest without an acknowledgement
	last   time.Time
}

func startUsers(t *testing.T, n int, addrs ...string) *users {
	u := &users{t: t, addrs: addrs, n: n, stop: make(chan struct{}), acked: make([]int, n), runs: map[string]*seen{}, errs: map[string]int{}, last: time.Now()}
	for i := range n {
		u.wg.Go(func() { u.user(i) })
	}
	t.Cleanup(u.end)
	u.await(20 * n)
	return u
}

// end has the users finish what they do.
func (u *users) end() {
	select {
	case <-u.stop:
	default:
		close(u.stop)
	}
	u.wg.Wait()
}

func (u *users) waits(i int) bool { return i%2 == 0 }

func (u *users) user(i int) {
	var c *conn
	var run string
	for n, try := 1, 0; ; try++ {
		select {
		case <-u.stop:
			if c != nil {
				c.Close()
			}
			return
		default:
		}
		err := func() (err error) {
			if c == nil {
				if c, err = dial(u.addrs[try%len(u.addrs)]); err != nil {
					return err
				}
				if run, err = c.runID(); err != nil {
					return err
				}
			}
			sent := time.Now()
			set := []string{"SET", fmt.Sprintf("user:%d", i), strconv.Itoa(n)}
			if !u.waits(i) {
				_, err = c.do(set)
			} else if err = u.setAndWait(c, set); errors.Is(err, errNoCopy) {
				time.Sleep(time.Millisecond) // it would be told so again at once
				return nil
			}
			if err != nil {
				return err
			}
			u.ack(i, n, run, sent)
			n++
			return nil
		}()
		if err != nil {
			u.mu.Lock()
			u.errs[reason(err)]++
			u.mu.Unlock()
			if c != nil {
				c.Close()
				c = nil
			}
			time.Sleep(5 * time.Millisecond) // as clients do between two tries
		}
	}
}

var errNoCopy = errors.New("no replica has it")

func (u *users) setAndWait(c *conn, set []string) error {
	// In one write: both on one connection, or neither.
	copies, err := c.do(set, []string{"WAIT", "1", "1000"})
	if err == nil && copies == "0" {
		err = errNoCopy
	}
	return err
}

func reason(err error) string {
	switch text := err.Error(); {
	case errors.Is(err, io.EOF), strings.Contains(text, "reset"), strings.Contains(text, "broken pipe"):
		return "cut"
	case strings.HasPrefix(text, "-"):
		word, _, _ := strings.Cut(text[1:], " ")
		return word
	case strings.Contains(text, "refused"):
		return "refused"
	default:
		return text
	}
}

func (u *users) ack(i, n int, run string, sent time.Time) {
	now := time.Now()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.acked[i] = n
	u.writes++
	u.gap = max(u.gap, now.Sub(u.last))
	u.last = now
	s := u.runs[run]
	if s == nil {
		s = &seen{firstAcked: now}
		u.runs[run] = s
	}
	if sent.After(s.lastSent) {
		s.lastSent = sent
	}
}

// await returns after so many more writes.
func (u *users) await(more int) {
	u.t.Helper()
	begin := u.count()
	until(u.t, fmt.Sprintf("%d more writes", more), func() error {
		if n := u.count() - begin; n < more {
			u.mu.Lock()
			defer u.mu.Unlock()
			return fmt.Errorf("%d; errors %v", n, u.errs)
		}
		return nil
	})
}

func (u *users) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.writes
}

// forget begins to measure the gap anew.
func (u *users) forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.gap, u.last = 0, time.Now()
}

// check compares what was acknowledged with what the master has. It returns how
// many writes are lost of those that nobody waited for.
func (u *users) check(master servertest.Redis) (lost int) {
	u.t.Helper()
	u.end()
	lostWaited := 0
	for i, want := range u.acked {
		text, _ := master.Must("GET", fmt.Sprintf("user:%d", i)).(string)
		have, _ := strconv.Atoi(text)
		if have >= want {
			continue
		}
		if u.waits(i) {
			lostWaited += want - have
		} else {
			lost += want - have
		}
	}
	if lostWaited > 0 {
		u.t.Errorf("%d acknowledged writes lost that a replica had acknowledged too", lostWaited)
	}
	u.t.Logf("%d writes, longest gap %v, lost %d of those without WAIT, errors %v", u.writes, u.gap.Round(time.Millisecond), lost, u.errs)
	return lost
}

// oneMaster checks that so many processes were written to, one after the other:
// none took a write that was sent after the next one had taken its first.
func (u *users) oneMaster(processes int) {
	u.t.Helper()
	u.end()
	runs := slices.SortedFunc(maps.Values(u.runs), func(a, b *seen) int { return a.firstAcked.Compare(b.firstAcked) })
	for i := 1; i < len(runs); i++ {
		if before, now := runs[i-1], runs[i]; !before.lastSent.Before(now.firstAcked) {
			u.t.Errorf("two masters: a write was taken by the old one that was sent %v after the new one took its first", before.lastSent.Sub(now.firstAcked))
		}
	}
	if len(runs) != processes {
		u.t.Errorf("writes went to %d processes, want %d", len(runs), processes)
	}
}

// until asks again until there is no error.
func until(t *testing.T, what string, ask func() error) {
	t.Helper()
	end := time.Now().Add(90 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not seen: %s: %v", what, err)
		}
		<-tick.C
	}
}
