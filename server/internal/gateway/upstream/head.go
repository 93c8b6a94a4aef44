// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"bytes"
	"io"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

// common reads the head of the usual answer: HTTP/1.1, whole in the buffer, with
// a length. It leaves less garbage than net/http, which gets all the others: then
// ok is false and nothing was read. The framing scanner has seen these bytes, so
// names and values are known to be good.
func (c *Conn) common(r *http.Request) (resp *http.Response, ok bool) {
	ahead, _ := c.br.Peek(c.br.Buffered())
	end := bytes.Index(ahead, []byte("\r\n\r\n"))
	if end < 0 || r == nil || r.Method == http.MethodHead {
		return nil, false
	}
	head := string(ahead[:end+2]) // every name and value is a part of it
	line, fields, _ := strings.Cut(head, "\r\n")
	status, ok := strings.CutPrefix(line, "HTTP/1.1 ")
	if !ok || len(status) < 3 {
		return nil, false
	}
	code, err := strconv.Atoi(status[:3])
	if err != nil || code < 200 || code == http.StatusNoContent || code == http.StatusNotModified {
		return nil, false
	}
	resp = &http.Response{
		Status: status, StatusCode: code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		ContentLength: -1, Request: r,
	}
	n := strings.Count(fields, "\n")
	resp.Header = make(http.Header, n)
	values := make([]string, n) // one for each field, as most come once
	for fields != "" {
		line, fields, _ = strings.Cut(fields, "\r\n")
		name, value, found := strings.Cut(line, ":")
		if !found {
			return nil, false
		}
		name, value = textproto.CanonicalMIMEHeaderKey(name), textproto.TrimString(value)
		switch name {
		case "Content-Length":
			length, err := strconv.ParseInt(value, 10, 64)
			if err != nil || resp.ContentLength >= 0 {
				return nil, false
			}
			resp.ContentLength = length
		case "Connection":
			switch {
			case resp.Close || resp.Header[name] != nil:
				return nil, false
			case strings.EqualFold(value, "close"):
				resp.Close = true
				continue
			case !strings.EqualFold(value, "keep-alive"):
				return nil, false
			}
		case "Transfer-Encoding", "Trailer", "Pragma": // they change what others mean
			return nil, false
		}
		if list := resp.Header[name]; list != nil {
			resp.Header[name] = append(list, value)
			continue
		}
		values[0] = value
		resp.Header[name], values = values[:1:1], values[1:]
	}
	if resp.ContentLength < 0 {
		return nil, false
	}
	_, _ = c.br.Discard(end + 4)
	if resp.Body = http.NoBody; resp.ContentLength > 0 {
		resp.Body = &sized{c, resp.ContentLength}
	}
	return resp, true
}

// sized is a body of a known length.
type sized struct {
	c    *Conn
	left int64
}

func (b *sized) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.c.br.Read(p[:min(int64(len(p)), b.left)])
	switch b.left -= int64(n); {
	case b.left == 0:
		err = io.EOF
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (b *sized) Close() error { return nil }
