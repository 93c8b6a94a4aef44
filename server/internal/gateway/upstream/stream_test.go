// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package upstream_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway/upstream"
)

// late is a connection whose reader learns nothing any more: it is always at the
// instant before it would.
type late struct {
	*net.TCPConn
	on     *atomic.Bool
	heard  chan<- struct{} // the end has arrived
	closed chan struct{}
	once   sync.Once
}

func (c *late) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if err != nil && c.on.Load() {
		c.heard <- struct{}{}
		<-c.closed
		return 0, net.ErrClosed
	}
	return n, err
}

// Write does what a kernel does that has heard of the end: it takes the bytes, and
// reports that they came to nothing only afterwards. Once it is closed here it takes
// nothing, as any.
func (c *late) Write(p []byte) (int, error) {
	if !c.on.Load() {
		return c.TCPConn.Write(p)
	}
	n, err := 0, net.ErrClosed
	c.once.Do(func() {
		n, err = len(p), nil
		close(c.closed)
	})
	return n, err
}

func (c *late) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.TCPConn.Close()
}

// A request that meets a connection in the instant when its server has died is
// known not to have been sent.
func TestStreamOnAConnectionThatHasJustEnded(t *testing.T) {
	var runs atomic.Int64
	heard := make(chan struct{}, 10)
	app := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { runs.Add(1) }))
	app.Config.Protocols = new(http.Protocols)
	app.Config.Protocols.SetUnencryptedHTTP2(true)
	app.Start()
	defer app.Close()
	var on atomic.Bool
	p := &upstream.Pool{Address: app.Listener.Addr().String(), Dialer: func(ctx context.Context, network, address string) (net.Conn, error) {
		nc, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &late{TCPConn: nc.(*net.TCPConn), on: &on, heard: heard, closed: make(chan struct{})}, nil
	}}
	p.SetTimeout(time.Minute)
	tr := upstream.NewTransport(p, upstream.H2C)
	defer tr.CloseIdle()
	ask := func() (sent bool, err error) {
		s := tr.Open(t.Context())
		defer s.Close()
		s.Begin(never{errors.New("gave up")})
		r, _ := http.NewRequestWithContext(t.Context(), "POST", "/", strings.NewReader("order"))
		r.GetBody = nil
		resp, sent, err := s.RoundTrip(r, nil)
		if err == nil {
			resp.Body.Close()
		}
		return sent, err
	}
	if sent, err := ask(); !sent || err != nil {
		t.Fatal(sent, err)
	}
	on.Store(true)
	app.CloseClientConnections()
	<-heard
	if sent, err := ask(); sent || !errors.Is(err, upstream.ErrBroken) {
		t.Errorf("sent: %v, %v; want it known that nothing was", sent, err)
	}
	on.Store(false)
	if sent, err := ask(); !sent || err != nil {
		t.Error("over a new connection:", sent, err)
	}
	if n := runs.Load(); n != 2 {
		t.Errorf("%d ran, want 2", n)
	}
}
