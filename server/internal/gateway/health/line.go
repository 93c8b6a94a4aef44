// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"bufio"
	"context"
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

// Question is what to ask.
type Question struct {
	Method string // empty: GET
	Path   string
	Host   string   // empty: that of the line
	Header []string // names and values in turn
	Body   bool     // the body of the answer matters
}

// Reply is what came back.
type Reply struct {
	Status int
	Header http.Header
	Body   []byte // the beginning, if it was asked for
}

// Get sends a GET with one extra header (none if name is empty) and returns the
// answer's status and head. The body is read and dropped.
func (l *Line) Get(path, name, value string) (int, http.Header, error) {
	q := Question{Path: path}
	if name != "" {
		q.Header = []string{name, value}
	}
	r, err := l.Ask(q)
	return r.Status, r.Header, err
}

// Ask asks one question.
func (l *Line) Ask(q Question) (Reply, error) {
	if q.Method == "" {
		q.Method = http.MethodGet
	}
	if q.Host == "" {
		q.Host = l.host
	}
	b := make([]byte, 0, 256)
	b = append(append(append(append(b, q.Method...), ' '), q.Path...), " HTTP/1.1\r\nHost: "...)
	b = append(append(b, q.Host...), "\r\nUser-Agent: belay\r\n"...)
	for i := 0; i+1 < len(q.Header); i += 2 {
		b = append(append(append(append(b, q.Header[i]...), ": "...), q.Header[i+1]...), "\r\n"...)
	}
	if _, err := l.conn.Write(append(b, "\r\n"...)); err != nil {
		return Reply{}, err
	}
	resp, err := http.ReadResponse(l.br, &http.Request{Method: q.Method})
	if err != nil {
		return Reply{}, err
	}
	defer resp.Body.Close()
	r := Reply{Status: resp.StatusCode, Header: resp.Header}
	body := io.LimitReader(resp.Body, maxBody)
	if q.Body {
		if r.Body, err = io.ReadAll(body); err != nil {
			return Reply{}, err // half of it may be the half without what is looked for
		}
	}
	if n, err := io.Copy(io.Discard, body); err != nil || n+int64(len(r.Body)) == maxBody || resp.Close {
		l.conn.Close() // the answer counts, but no second question on this line
	}
	return r, nil
}
