// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // as RFC 6455 wants it
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"time"
)

// socket is a WebSocket that a client opens inside HTTP/2 (RFC 8441). Servers get
// it as an upgrade of HTTP/1.1. It is the client's end of a tunnel, and may be used
// as long as its request is answered.
type socket struct {
	w    http.ResponseWriter
	rc   *http.ResponseController
	body io.Reader // what the client sends
	key  string    // what the server has to confirm
}

// protocolField is where net/http puts the pseudo-header of an extended CONNECT.
const protocolField = ":protocol"

// openSocket turns an extended CONNECT into the upgrade that servers know. It
// reports false if it is refused.
func (x *exchange) openSocket() bool {
	switch proto := x.r.Header[protocolField]; {
	case x.r.Method != http.MethodConnect:
		x.refuse(&refusal{status: http.StatusBadRequest, outcome: "bad_request", text: "Only CONNECT has a protocol."})
		return false
	case len(proto) != 1 || !strings.EqualFold(proto[0], "websocket"):
		x.refuse(&refusal{status: http.StatusNotImplemented, outcome: "no_upgrade", text: "This gateway opens WebSockets, and nothing else, inside HTTP/2."})
		return false
	}
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // never fails
	x.socket = &socket{w: x.w, rc: x.rc, body: x.r.Body, key: base64.StdEncoding.EncodeToString(nonce[:])}
	r := new(http.Request)
	*r = *x.r
	r.Method, r.Body, r.ContentLength, r.Trailer = http.MethodGet, http.NoBody, 0, nil
	r.Header = maps.Clone(x.r.Header)
	delete(r.Header, protocolField)
	r.Header["Connection"] = []string{"Upgrade"}
	r.Header["Upgrade"] = []string{"websocket"}
	r.Header["Sec-Websocket-Key"] = []string{x.socket.key}
	x.r = r
	return true
}

// confirmed reports whether a server has understood that a WebSocket is wanted;
// for clients of HTTP/1.1 they look themselves.
func (s *socket) confirmed(h http.Header) bool {
	if s == nil {
		return true
	}
	sum := sha1.Sum([]byte(s.key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // as above
	return h.Get("Sec-Websocket-Accept") == base64.StdEncoding.EncodeToString(sum[:])
}

// open tells the client that the server has agreed.
func (s *socket) open(h http.Header) {
	delete(h, "Sec-Websocket-Accept")
	maps.Copy(s.w.Header(), h)
	s.w.WriteHeader(http.StatusOK)
}

// Read reads what the client sends.
func (s *socket) Read(p []byte) (int, error) { return s.body.Read(p) }

// Write sends at once: whoever waits for a message cannot know that more follows.
func (s *socket) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err == nil {
		err = s.rc.Flush()
	}
	return n, err
}

// lastBytes is how long a client that has ended its side may take for what is on
// its way to it.
const lastBytes = 10 * time.Second

// Close ends reads and, after a while, writes. The stream itself ends with the
// exchange, so that the client sees an end and no failure.
func (s *socket) Close() error {
	_ = s.rc.SetWriteDeadline(time.Now().Add(lastBytes))
	return s.rc.SetReadDeadline(longAgo)
}

// SetDeadline, SetReadDeadline and SetWriteDeadline are for the stream alone.
func (s *socket) SetDeadline(t time.Time) error {
	return errors.Join(s.rc.SetReadDeadline(t), s.rc.SetWriteDeadline(t))
}
func (s *socket) SetReadDeadline(t time.Time) error  { return s.rc.SetReadDeadline(t) }
func (s *socket) SetWriteDeadline(t time.Time) error { return s.rc.SetWriteDeadline(t) }

// LocalAddr and RemoteAddr are not known to a stream.
func (s *socket) LocalAddr() net.Addr  { return &net.TCPAddr{} }
func (s *socket) RemoteAddr() net.Addr { return &net.TCPAddr{} }
