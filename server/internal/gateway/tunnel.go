// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// tunnels are the connections that speak something other than HTTP by now. The
// HTTP server has forgotten them, so they are kept here until they end.
type tunnels struct {
	mu     sync.Mutex
	closed bool
	open   map[*tunnel]*exchange
	wg     sync.WaitGroup
}

// enter counts an exchange that becomes a tunnel, until it leaves: close waits
// for it, its line in the log included. It reports false after close.
func (t *tunnels) enter() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.wg.Add(1)
	return true
}

func (t *tunnels) leave() { t.wg.Done() }

// add keeps a tunnel of an exchange that has entered, for close to end it.
func (t *tunnels) add(c *tunnel, x *exchange) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		c.end()
		return
	}
	if t.open == nil {
		t.open = make(map[*tunnel]*exchange)
	}
	t.open[c] = x
}

func (t *tunnels) remove(c *tunnel) {
	t.mu.Lock()
	delete(t.open, c)
	t.mu.Unlock()
}

// cut ends those for which keep is false.
func (t *tunnels) cut(keep func(*exchange) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c, x := range t.open {
		if !keep(x) {
			c.end()
		}
	}
}

func (t *tunnels) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.open)
}

// await returns once there is none any more, or ctx ends.
func (t *tunnels) await(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.wg.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

func (t *tunnels) close() {
	t.mu.Lock()
	t.closed = true
	for c := range t.open {
		c.end()
	}
	t.mu.Unlock()
	t.wg.Wait()
}

// join connects client and server after a 101, until either end closes.
func (x *exchange) join(i int, a *attempt, resp *http.Response) {
	if proto := upgrade(x.r.Header); proto == "" || !strings.EqualFold(proto, resp.Header.Get("Upgrade")) || x.msg.upload != nil || !x.socket.confirmed(resp.Header) {
		a.giveUp()
		x.stopUpload()
		x.refuse(unknown(http.StatusBadGateway, "The server changed to a protocol that was not asked for.", "malformed_answer"))
		return
	}
	var out bytes.Buffer
	h := make(http.Header)
	copyAnswerHeader(h, resp.Header)
	x.stick(h, i)
	out.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + resp.Header.Get("Upgrade") + "\r\n")
	_ = h.Write(&out)
	out.WriteString("\r\n")

	alone := a.end()
	if !alone { // the client left at this moment
		a.link.Close()
		x.gone()
		return
	}
	if x.tunnel = x.g.tunnels.enter(); !x.tunnel { // the gateway ends at this moment
		a.link.Close()
		x.refuse(unknown(http.StatusServiceUnavailable, "The gateway is stopping.", "stopping"))
		return
	}
	x.status, x.outcome = http.StatusSwitchingProtocols, "tunnel"
	client, ahead, err := x.takeClient()
	if err != nil {
		a.link.Close()
		x.gone()
		return
	}
	defer client.Close()
	client.SetDeadline(time.Time{})
	head := out.Bytes()
	if x.socket != nil {
		x.socket.open(h)
		x.status, head = http.StatusOK, nil
	}
	server, behind := a.conn.Tunnel()
	t := &tunnel{client: client, server: server}
	if strings.EqualFold(resp.Header.Get("Upgrade"), "websocket") {
		t.frames = new(frames)
	}
	x.g.tunnels.add(t, x)
	defer x.g.tunnels.remove(t)
	x.bytes = t.relay(head, behind, ahead)
}

// takeClient returns the client's end, and what has come from it already.
func (x *exchange) takeClient() (net.Conn, []byte, error) {
	if x.socket != nil {
		return x.socket, nil, nil
	}
	client, rw, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		return nil, nil, err
	}
	ahead, _ := rw.Reader.Peek(rw.Reader.Buffered())
	return client, ahead, nil
}

// tunnel joins a client and a server.
type tunnel struct {
	client, server net.Conn
	frames         *frames // from the server; nil: it is no WebSocket

	ending atomic.Bool
	until  time.Time // when it is cut whatever comes; read after ending
	bye    atomic.Bool
}

// farewell is how long a WebSocket that has to end may take: for the rest of a
// frame, and for the client to read why.
const farewell = time.Second

// end ends the tunnel: a WebSocket between two frames, with one that says so,
// anything else at once.
func (t *tunnel) end() {
	if t.frames == nil {
		t.client.Close()
		return
	}
	if t.ending.Load() {
		return
	}
	t.until = time.Now().Add(farewell)
	t.ending.Store(true)
	t.client.SetWriteDeadline(t.until)
	t.server.SetReadDeadline(longAgo) // wakes down, which sees to the rest
}

// relay writes the head and what the server sent behind it, then copies both ways
// until one end closes. It returns the bytes that went to the client.
func (t *tunnel) relay(head, behind, ahead []byte) int64 {
	var wg sync.WaitGroup
	wg.Go(func() {
		defer func() {
			t.server.Close()
			if !t.bye.Load() {
				t.client.Close()
			}
		}()
		if _, err := t.server.Write(ahead); err == nil {
			_, _ = io.Copy(t.server, t.client)
		}
	})
	var n int64
	if _, err := t.client.Write(head); err == nil {
		if t.frames != nil {
			n = t.down(behind)
		} else if m, err := t.client.Write(behind); err == nil {
			n, _ = io.Copy(t.client, t.server)
			n += int64(m)
		}
	}
	t.server.Close()
	if t.bye.Load() {
		// A connection that is closed with something unread is reset, and the
		// client might not see what was sent last.
		if h, ok := t.client.(interface{ CloseWrite() error }); ok {
			_ = h.CloseWrite() // then he knows that he may close, and need not be waited for
		}
		t.client.SetReadDeadline(t.until)
		wg.Wait()
		_, _ = io.Copy(io.Discard, t.client)
	}
	t.client.Close()
	wg.Wait()
	return n
}

// longFrame is the rest of a frame that is left to the kernel.
const longFrame = 64 << 10

// down copies the frames of the server to the client, until there are no more or
// the tunnel has to end.
func (t *tunnel) down(behind []byte) (total int64) {
	buf := make([]byte, 4<<10)
	for p := behind; ; {
		n, over := t.pass(p)
		total += n
		if over {
			return total
		}
		if t.frames.left >= longFrame {
			n, err := io.Copy(t.client, &io.LimitedReader{R: t.server, N: int64(t.frames.left)})
			total += n
			t.frames.skip(n)
			p = nil
			if err == nil && t.frames.left == 0 || t.rest(err) {
				continue
			}
			return total
		}
		m, err := t.server.Read(buf)
		if p = buf[:m]; m == 0 && !t.rest(err) {
			return total
		}
	}
}

// pass writes p to the client, and the last frame of all where the tunnel has to
// end and one has ended. It reports whether that is over.
func (t *tunnel) pass(p []byte) (n int64, over bool) {
	ending := t.ending.Load()
	last := ending && t.frames.between()
	if last {
		p = nil
	}
	for rest := p; len(rest) > 0 && !last; {
		m, end := t.frames.next(rest)
		rest = rest[m:]
		if last = end && ending; last {
			p = p[:len(p)-len(rest)]
		}
	}
	if len(p) > 0 {
		m, err := t.client.Write(p)
		if n = int64(m); err != nil {
			return n, true
		}
	}
	if !last {
		return n, false
	}
	t.bye.Store(true)
	m, err := t.client.Write(goingAway)
	if err != nil {
		t.bye.Store(false)
	}
	return n + int64(m), true
}

// goingAway is a frame that closes a WebSocket with the code 1001.
var goingAway = []byte{0x80 | opClose, 2, 1001 >> 8, 1001 & 0xff}

// rest reports whether reading goes on after an error: to the end of a frame
// that has begun, where the tunnel has to end.
func (t *tunnel) rest(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) || !t.ending.Load() || !time.Now().Before(t.until) {
		return false
	}
	t.server.SetReadDeadline(t.until)
	return true
}
