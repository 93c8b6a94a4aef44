// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
)

// floorArg is the first argument of a process that is the floor.
const floorArg = "floor"

// floor is the least that a proxy behind net/http's server does: it writes a head
// to a connection that it keeps, reads the answer and passes it on. It checks
// nothing, has no time-outs, and can only speak to the app servers of this bench.
type floor struct {
	turn atomic.Uint64
	apps []*lines
}

// lines are the connections to one app server.
type lines struct {
	addr string
	mu   sync.Mutex
	idle []*appLine
}

type appLine struct {
	net.Conn
	in  *bufio.Reader
	out []byte // the head, in the making
}

// runFloor serves on addr until the process ends.
func runFloor(addr string, apps []string) error {
	f := &floor{}
	for _, a := range apps {
		f.apps = append(f.apps, &lines{addr: a})
	}
	return http.ListenAndServe(addr, f) //nolint:gosec // no time-outs: they would cost something
}

// ServeHTTP implements http.Handler.
func (f *floor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l := f.apps[f.turn.Add(1)%uint64(len(f.apps))]
	c, err := l.get()
	if err == nil {
		if err = c.exchange(w, r); err == nil {
			l.put(c)
			return
		}
		c.Close()
	}
	panic(http.ErrAbortHandler)
}

func (l *lines) get() (*appLine, error) {
	l.mu.Lock()
	if n := len(l.idle); n > 0 {
		c := l.idle[n-1]
		l.idle = l.idle[:n-1]
		l.mu.Unlock()
		return c, nil
	}
	l.mu.Unlock()
	c, err := net.Dial("tcp", l.addr) //nolint:noctx // a bench on loopback
	if err != nil {
		return nil, err
	}
	return &appLine{Conn: c, in: bufio.NewReaderSize(c, 16<<10)}, nil
}

func (l *lines) put(c *appLine) {
	l.mu.Lock()
	l.idle = append(l.idle, c)
	l.mu.Unlock()
}

func (c *appLine) exchange(w http.ResponseWriter, r *http.Request) error {
	b := append(append(append(c.out[:0], r.Method...), ' '), r.RequestURI...)
	b = append(append(append(b, " HTTP/1.1\r\nHost: "...), r.Host...), "\r\n"...)
	for name, values := range r.Header {
		for _, v := range values {
			b = append(append(append(append(b, name...), ": "...), v...), "\r\n"...)
		}
	}
	c.out = append(b, "\r\n"...)
	if _, err := c.Write(c.out); err != nil {
		return err
	}
	status, err := c.in.ReadSlice('\n')
	if err != nil || !bytes.HasPrefix(status, []byte("HTTP/1.1 200 ")) {
		return errors.Join(err, errors.New("no 200"))
	}
	length := int64(-1)
	h := w.Header()
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		name, value, _ := bytes.Cut(line[:len(line)-2], []byte(": "))
		if string(name) == "Content-Length" {
			if length, err = strconv.ParseInt(string(value), 10, 64); err != nil {
				return err
			}
		}
		h[string(name)] = []string{string(value)} // the app servers write names as net/http does
	}
	buf := floorBuffers.Get().(*[32 << 10]byte)
	defer floorBuffers.Put(buf)
	for length > 0 {
		p := buf[:min(length, int64(len(buf)))]
		if _, err := io.ReadFull(c.in, p); err != nil {
			return err
		}
		if _, err := w.Write(p); err != nil {
			return err
		}
		length -= int64(len(p))
	}
	return nil
}

var floorBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}
