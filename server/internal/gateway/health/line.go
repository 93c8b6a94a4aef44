// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// Line is a connection for a few small questions, one after the other. Not safe
// for concurrent use.
type Line struct {
	conn net.Conn
	br   *bufio.Reader
	host string
	stop func() bool
}

// maxBody is how much of an answer's body is read; nobody needs it.
const maxBody = 64 << 10

// NewLine takes over a connection; host is for the Host header. Once ctx ends,
// every question fails.
func NewLine(ctx context.Context, conn net.Conn, host string) *Line {
	return &Line{
		conn: conn,
		br:   bufio.NewReaderSize(conn, 1024),
		host: host,
		stop: context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) }),
	}
}

// Close hangs up.
func (l *Line) Close() {
	l.stop()
	l.conn.Close()
}

// Get sends a GET with one extra header (none if name is empty) and returns the
// answer's status and head. The body is read and dropped.
func (l *Line) Get(path, name, value string) (int, http.Header, error) {
	b := make([]byte, 0, 256)
	b = append(append(b, "GET "...), path...)
	b = append(append(b, " HTTP/1.1\r\nHost: "...), l.host...)
	b = append(b, "\r\nUser-Agent: belay\r\n"...)
	if name != "" {
		b = append(append(append(append(b, name...), ": "...), value...), "\r\n"...)
	}
	if _, err := l.conn.Write(append(b, "\r\n"...)); err != nil {
		return 0, nil, err
	}
	resp, err := http.ReadResponse(l.br, nil)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxBody)); err != nil || n == maxBody || resp.Close {
		l.conn.Close() // the answer counts, but no second question on this line
	}
	return resp.StatusCode, resp.Header, nil
}

// StatusError is the answer of a server that says itself that it is not well.
type StatusError struct{ Status int }

func (e StatusError) Error() string {
	return fmt.Sprintf("health: the check was answered with status %d; 200 to 399 would pass", e.Status)
}

// Passes returns nil for 2xx and 3xx.
func Passes(status int) error {
	if status >= 200 && status < 400 {
		return nil
	}
	return StatusError{status}
}
