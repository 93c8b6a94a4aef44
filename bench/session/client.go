// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// client is one keep-alive connection with one session: HTTP/1.1 by hand, so
// that the generator of load takes as little of the machine as it can.
type client struct {
	conn   net.Conn
	in     *bufio.Reader
	out    []byte // reused
	cookie string // "id=…"
	n      int    // what the counter must be
	counts bool   // the app has a counter
}

// patience bounds one case in one round.
const patience = time.Minute

func dial(address string) (*client, error) {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &client{conn: conn, in: bufio.NewReader(conn)}, nil
}

// run sends n requests, one after the other, and checks each answer: what is
// fast and wrong is not measured.
func (c *client) run(path string, n int) error {
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	for range n {
		got, err := c.get(path)
		if err != nil {
			return err
		}
		if path == pathWrite && c.counts {
			c.n++
		}
		if got != c.n {
			return fmt.Errorf("GET %s: the counter is %d, want %d", path, got, c.n)
		}
	}
	return nil
}

// get sends one request and returns the number that is the answer's body.
func (c *client) get(path string) (int, error) {
	c.out = append(append(append(c.out[:0], "GET "...), path...), " HTTP/1.1\r\nHost: bench\r\n"...)
	if c.cookie != "" {
		c.out = append(append(append(c.out, "Cookie: "...), c.cookie...), "\r\n"...)
	}
	c.out = append(c.out, "\r\n"...)
	if _, err := c.conn.Write(c.out); err != nil {
		return 0, err
	}
	return c.answer()
}

var (
	ok            = []byte("HTTP/1.1 200 ")
	contentLength = []byte("Content-Length: ")
	setCookie     = []byte("Set-Cookie: " + cookieName + "=")
)

func (c *client) answer() (int, error) {
	status, err := c.in.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	bad := ""
	if !bytes.HasPrefix(status, ok) {
		bad = string(bytes.TrimSpace(status))
	}
	length := -1
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		if v, ok := bytes.CutPrefix(line, contentLength); ok {
			if length, err = strconv.Atoi(string(v)); err != nil {
				return 0, err
			}
		} else if v, ok := bytes.CutPrefix(line, setCookie); ok {
			v, _, _ = bytes.Cut(v, []byte(";"))
			c.cookie = cookieName + "=" + string(v)
		}
	}
	if length < 0 || length > 4096 {
		return 0, errors.New("an answer without a length")
	}
	var body [4096]byte
	if _, err := io.ReadFull(c.in, body[:length]); err != nil {
		return 0, err
	}
	if bad != "" {
		return 0, fmt.Errorf("%s: %s", bad, bytes.TrimSpace(body[:length]))
	}
	return strconv.Atoi(string(body[:length]))
}
