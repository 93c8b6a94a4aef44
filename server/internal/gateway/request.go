// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/belay-ha/belay/server/internal/gateway/upstream"
)

// replayable is how much of a body is kept for a second try. Longer bodies are
// passed on as they come, and cannot be sent again.
const replayable = 64 << 10

// message is a request as the servers get it.
type message struct {
	head   []byte // without the attempt and the empty line at its end
	body   []byte // the body, or its beginning if there is an upload
	upload *upstream.Upload
	pooled *bytes.Buffer
	room   *[headRoom]byte // what head is built in, if it fits
}

// headRoom is enough for most heads.
const headRoom = 2 << 10

// heads are shared like buffers.
var heads = sync.Pool{New: func() any { return new([headRoom]byte) }}

type bufferPool struct{ sync.Pool }

// buffers are shared by all gateways of the process; they hold nothing between uses.
var buffers = &bufferPool{sync.Pool{New: func() any { return bytes.NewBuffer(make([]byte, 0, 4<<10)) }}}

func (p *bufferPool) get() *bytes.Buffer {
	b := p.Get().(*bytes.Buffer)
	b.Reset()
	return b
}

func (p *bufferPool) put(b *bytes.Buffer) {
	if b.Cap() <= 2*replayable {
		p.Put(b)
	}
}

// readBody reads a body that fits into memory, and leaves the rest to an upload.
func (m *message) readBody(r *http.Request) error {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil
	}
	if r.ContentLength > replayable || dialogue(r) {
		m.upload = &upstream.Upload{Body: r.Body, Length: r.ContentLength}
		return nil
	}
	m.pooled = buffers.get()
	n, err := m.pooled.ReadFrom(io.LimitReader(r.Body, replayable+1))
	m.body = m.pooled.Bytes()
	switch {
	case err != nil:
		return err
	case n > replayable:
		m.upload = &upstream.Upload{Body: io.MultiReader(bytes.NewReader(m.body), r.Body), Length: -1}
		m.body = nil
	case len(r.Trailer) > 0:
		// A trailer needs chunks; it is complete now.
		m.body = chunked(m.body, r.Trailer)
	}
	return nil
}

// dialogue reports whether a client may wait for an answer to the beginning of
// its body before it sends the rest.
func dialogue(r *http.Request) bool {
	return r.ContentLength < 0 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

func chunked(body []byte, trailer http.Header) []byte {
	var b bytes.Buffer
	if len(body) > 0 {
		b.WriteString(strconv.FormatInt(int64(len(body)), 16) + "\r\n")
		b.Write(body)
		b.WriteString("\r\n")
	}
	b.WriteString("0\r\n")
	for name, values := range trailer {
		for _, v := range values {
			b.WriteString(name + ": " + v + "\r\n")
		}
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

func (m *message) free() {
	if m.room != nil {
		heads.Put(m.room)
		m.room, m.head = nil, nil
	}
	if m.pooled != nil {
		buffers.put(m.pooled)
	}
}

var errTarget = errors.New("gateway: request target is not a path")

// target returns what to ask the server for: exactly what the client wrote.
func target(r *http.Request) (string, error) {
	if strings.HasPrefix(r.RequestURI, "/") || r.RequestURI == "*" && r.Method == http.MethodOptions {
		return r.RequestURI, nil
	}
	if r.URL.Host != "" && r.Method != http.MethodConnect {
		return r.URL.RequestURI(), nil // http://host/path, as to a forward proxy
	}
	return "", errTarget
}

// writeHead builds the head. cookies are the Cookie lines without our own.
func (x *exchange) writeHead(buf []byte, target string, cookies []string) {
	r, c, m, rules := x.r, &x.client, &x.msg, &x.site.cfg.Request
	b := append(buf[:0], r.Method...)
	b = append(append(append(b, ' '), target...), " HTTP/1.1\r\nHost: "...)
	b = append(append(b, r.Host...), "\r\n"...)
	drop := named(r.Header)
next:
	for name, values := range r.Header {
		spelled := respelled(name)
		switch {
		case hopByHop(name), private(spelled), name == "Content-Length", name == "Expect", name == "Host":
			continue
		case name == "Cookie":
			values = cookies
		case forwarded(spelled):
			if !c.Trusted || spelled == "X-Forwarded-For" || spelled == "Forwarded" && x.now.forwarded {
				continue
			}
		}
		if rules.drops(spelled) {
			continue
		}
		for _, d := range drop {
			if d == name {
				continue next
			}
		}
		for _, v := range values {
			if v != "" || name != "Cookie" {
				b = field(b, name, v)
			}
		}
	}
	b = rules.write(x.forwardedFields(b))
	if proto := upgrade(r.Header); proto != "" {
		b = field(b, "Connection", "Upgrade")
		b = field(b, "Upgrade", proto)
	}
	m.head = m.framing(b, r)
}

// forwardedFields tells the server who the client is and what it asked for.
func (x *exchange) forwardedFields(b []byte) []byte {
	r, c, rules := x.r, &x.client, &x.site.cfg.Request
	add := func(name, value string) {
		if value != "" && !rules.drops(name) {
			b = field(b, name, value)
		}
	}
	add("X-Forwarded-For", c.ForwardedFor)
	proto := "http"
	if r.TLS != nil {
		proto = "https"
	}
	if !c.Trusted || r.Header["X-Forwarded-Proto"] == nil {
		add("X-Forwarded-Proto", proto)
	}
	if !c.Trusted || r.Header["X-Forwarded-Host"] == nil {
		add("X-Forwarded-Host", r.Host)
	}
	if x.now.forwarded {
		add("Forwarded", c.Forwarded(r.Header["Forwarded"], proto, r.Host))
	}
	return b
}

func (m *message) framing(b []byte, r *http.Request) []byte {
	switch {
	case m.upload != nil && m.upload.Length >= 0:
		b = append(strconv.AppendInt(append(b, "Content-Length: "...), m.upload.Length, 10), "\r\n"...)
	case m.upload != nil || len(r.Trailer) > 0:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
		if len(r.Trailer) > 0 {
			names := make([]string, 0, len(r.Trailer))
			for name := range r.Trailer {
				names = append(names, name)
			}
			b = field(b, "Trailer", strings.Join(names, ", "))
		}
	case len(m.body) > 0 || r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch:
		b = append(strconv.AppendInt(append(b, "Content-Length: "...), int64(len(m.body)), 10), "\r\n"...)
	}
	return b
}

func field(b []byte, name, value string) []byte {
	return append(append(append(append(b, name...), ": "...), value...), "\r\n"...)
}

// repeatable reports whether running the request twice does no more than running
// it once: by its method, or because its key lets the app see that it is the same.
func repeatable(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return r.Header.Get("Idempotency-Key") != ""
}
