// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway/upstream"
)

// tunnels are the connections that speak something other than HTTP by now. The
// HTTP server has forgotten them, so they are kept here until they end.
type tunnels struct {
	mu     sync.Mutex
	closed bool
	open   map[net.Conn]*exchange
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

// add keeps a connection of an exchange that has entered, for close to end it.
func (t *tunnels) add(c net.Conn, x *exchange) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		c.Close()
		return
	}
	if t.open == nil {
		t.open = make(map[net.Conn]*exchange)
	}
	t.open[c] = x
}

func (t *tunnels) remove(c net.Conn) {
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
			c.Close()
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
		c.Close()
	}
	t.mu.Unlock()
	t.wg.Wait()
}

// join connects client and server after a 101, until either end closes.
func (x *exchange) join(i int, a *attempt, resp *http.Response) {
	if proto := upgrade(x.r.Header); proto == "" || !strings.EqualFold(proto, resp.Header.Get("Upgrade")) || x.msg.upload != nil {
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
	client, rw, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		a.link.Close()
		x.gone()
		return
	}
	defer client.Close()
	x.b = a.b
	x.g.tunnels.add(client, x)
	defer x.g.tunnels.remove(client)
	client.SetDeadline(time.Time{})
	ahead, _ := rw.Reader.Peek(rw.Reader.Buffered())
	x.bytes = relay(client, a.conn, &out, ahead)
}

// relay copies both ways until one end closes, and returns the bytes that went to
// the client.
func relay(client net.Conn, c *upstream.Conn, head *bytes.Buffer, ahead []byte) int64 {
	server, behind := c.Tunnel()
	head.Write(behind)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer client.Close()
		defer server.Close()
		if _, err := server.Write(ahead); err == nil {
			_, _ = io.Copy(server, client)
		}
	})
	var n int64
	if _, err := client.Write(head.Bytes()); err == nil {
		n, _ = io.Copy(client, server)
	}
	server.Close()
	client.Close()
	wg.Wait()
	return n
}
