// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/belay-ha/belay/internal/wire"
	"github.com/belay-ha/belay/server/internal/gateway"
	"github.com/belay-ha/belay/server/internal/gateway/edge"
)

// rawHTTP2 is a client of HTTP/2 that sends the frames it wants.
type rawHTTP2 struct {
	*testing.T
	net.Conn
	f        *http2.Framer
	settings map[http2.SettingID]uint32
	heads    map[uint32]map[string]string // of answers, by stream
	data     map[uint32]*bytes.Buffer
	ended    map[uint32]string // how: "end" or "reset"
	next     uint32
}

func dialHTTP2(t *testing.T, address string, conf *tls.Config) *rawHTTP2 {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	if conf != nil {
		c = tls.Client(c, conf)
	}
	h := &rawHTTP2{
		T: t, Conn: c, f: http2.NewFramer(c, c), settings: map[http2.SettingID]uint32{}, heads: map[uint32]map[string]string{},
		data: map[uint32]*bytes.Buffer{}, ended: map[uint32]string{}, next: 1,
	}
	h.f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	io.WriteString(c, http2.ClientPreface)
	h.f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 4 << 20})
	h.f.WriteWindowUpdate(0, 4<<20)
	h.until(func() bool { return len(h.settings) > 0 })
	return h
}

// until reads frames.
func (h *rawHTTP2) until(enough func() bool) {
	h.Helper()
	for !enough() {
		frame, err := h.f.ReadFrame()
		if err != nil {
			h.Fatal(err)
		}
		id := frame.Header().StreamID
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if f.IsAck() {
				continue
			}
			f.ForeachSetting(func(s http2.Setting) error { h.settings[s.ID] = s.Val; return nil })
			h.f.WriteSettingsAck()
		case *http2.PingFrame:
			if !f.IsAck() {
				h.f.WritePing(true, f.Data)
			}
		case *http2.MetaHeadersFrame:
			h.heads[id] = map[string]string{}
			for _, kv := range f.Fields {
				h.heads[id][kv.Name] = kv.Value
			}
			if f.StreamEnded() {
				h.ended[id] = "end"
			}
		case *http2.DataFrame:
			h.data[id].Write(f.Data())
			if f.StreamEnded() {
				h.ended[id] = "end"
			}
		case *http2.RSTStreamFrame:
			if h.ended[id] == "" {
				h.ended[id] = "reset"
			}
		case *http2.GoAwayFrame:
			h.Fatal("the gateway ends the connection: ", f.ErrCode)
		}
	}
}

// send opens a stream; kv are header names and values.
func (h *rawHTTP2) send(end bool, kv ...string) uint32 {
	h.Helper()
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i+1 < len(kv); i += 2 {
		e.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]})
	}
	id := h.next
	h.next += 2
	h.data[id] = &bytes.Buffer{}
	if err := h.f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b.Bytes(), EndHeaders: true, EndStream: end}); err != nil {
		h.Fatal(err)
	}
	return id
}

// answer returns the status of a stream.
func (h *rawHTTP2) answer(id uint32) string {
	h.Helper()
	h.until(func() bool { return h.heads[id] != nil || h.ended[id] != "" })
	return h.heads[id][":status"]
}

// connect asks for a WebSocket.
func (h *rawHTTP2) connect(path string, kv ...string) uint32 {
	h.Helper()
	return h.send(false, append([]string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":path", path, ":authority", "shop", "sec-websocket-version", "13"}, kv...)...)
}

// say sends a message; the mask that RFC 6455 asks for is zeros.
func (h *rawHTTP2) say(id uint32, text string) {
	h.Helper()
	var head []byte
	if n := len(text); n < 126 {
		head = []byte{0x81, 0x80 | byte(n), 0, 0, 0, 0}
	} else {
		head = []byte{0x81, 0x80 | 126, byte(n >> 8), byte(n), 0, 0, 0, 0}
	}
	for all := append(head, text...); len(all) > 0; {
		n := min(len(all), 16<<10)
		if err := h.f.WriteData(id, false, all[:n]); err != nil {
			h.Fatal(err)
		}
		all = all[n:]
	}
}

// hear returns the next message.
func (h *rawHTTP2) hear(id uint32) string {
	h.Helper()
	b := h.data[id]
	more := func(n int) []byte {
		h.until(func() bool { return b.Len() >= n || h.ended[id] != "" })
		return b.Next(n)
	}
	head := more(2)
	if len(head) < 2 {
		return "ended"
	}
	n := int(head[1])
	if n == 126 {
		long := more(2)
		n = int(long[0])<<8 | int(long[1])
	}
	return string(more(n))
}

// sockets runs a gateway with an app that speaks WebSocket, on a listener with TLS
// and on one with h2c.
func sockets(t *testing.T, test func(h *rawHTTP2, g *gateway.Gateway, seen func() []string)) {
	for _, secure := range []bool{true, false} {
		t.Run(map[bool]string{true: "tls", false: "h2c"}[secure], func(t *testing.T) {
			var mu sync.Mutex
			var list []string // what the app was asked for
			app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/healthz" || r.URL.Path == wire.ProbePath {
					return
				}
				mu.Lock()
				list = append(list, fmt.Sprint(r.Method, " ", r.URL.Path, " ", r.Host, " ", r.Header.Get("X-Forwarded-Proto"), " ", len(r.Header[":protocol"])))
				mu.Unlock()
				switch r.URL.Path {
				case "/forbidden":
					http.Error(w, "no", http.StatusForbidden)
				case "/ws":
					c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"chat"}})
					if err != nil {
						return
					}
					defer c.CloseNow()
					c.SetReadLimit(1 << 20)
					for {
						kind, msg, err := c.Read(r.Context())
						if err != nil || string(msg) == "leave" || c.Write(r.Context(), kind, append([]byte("echo "), msg...)) != nil {
							return
						}
					}
				case "/liar": // it has not understood what was asked
					hj, _, err := http.NewResponseController(w).Hijack()
					if err == nil {
						io.WriteString(hj, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n")
						hj.Close()
					}
				}
			}))
			defer app.Close()
			cfg := config("app")
			cfg.Pools[0].Servers[0].Address = app.Listener.Addr().String()
			g := gateway.New(cfg, &gateway.Options{Dial: (&net.Dialer{}).DialContext})
			ctx, cancel := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			wg.Go(func() { g.Run(ctx) })
			if err := g.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			o := edge.Options{Handler: g, Logger: slog.New(slog.DiscardHandler), H2C: !secure, Grace: time.Minute}
			var conf *tls.Config
			if secure {
				pair, roots := selfSigned(t)
				o.TLS = edge.Secure([]tls.Certificate{pair}, 0, edge.ClientCertsNone, nil)
				conf = &tls.Config{RootCAs: roots, ServerName: "example.com", NextProtos: []string{"h2"}}
			}
			wg.Go(func() {
				if err := edge.New(o).Run(ctx, ln); err != nil {
					t.Error(err)
				}
			})
			defer func() { g.CloseTunnels(); cancel(); wg.Wait() }()
			h := dialHTTP2(t, ln.Addr().String(), conf)
			defer h.Close()
			test(h, g, func() []string { mu.Lock(); defer mu.Unlock(); return list })
		})
	}
}

func TestWebSocketOverHTTP2(t *testing.T) {
	sockets(t, func(h *rawHTTP2, g *gateway.Gateway, seen func() []string) {
		if h.settings[http2.SettingEnableConnectProtocol] != 1 {
			h.Fatal("not offered: ", h.settings)
		}
		ws := h.connect("/ws?x=y", "sec-websocket-protocol", "chat", "origin", "https://shop")
		if status := h.answer(ws); status != "200" || h.heads[ws]["sec-websocket-protocol"] != "chat" || h.heads[ws]["set-cookie"] == "" || h.heads[ws]["sec-websocket-accept"] != "" {
			h.Fatal(h.heads[ws])
		}
		if got := seen()[0]; !strings.HasPrefix(got, "GET /ws shop http") || !strings.HasSuffix(got, " 0") {
			h.Error("the app saw ", got)
		}
		other := h.connect("/ws")
		if status := h.answer(other); status != "200" {
			h.Fatal(h.heads[other])
		}
		long := strings.Repeat("x", 60000)
		for range 20 { // more than a window of either side
			h.say(ws, long)
			if got := h.hear(ws); got != "echo "+long {
				h.Fatalf("%d bytes came back", len(got))
			}
			h.f.WriteWindowUpdate(0, 64<<10)
			h.f.WriteWindowUpdate(ws, 64<<10)
		}
		h.say(other, "hi")
		if got := h.hear(other); got != "echo hi" {
			h.Error(got)
		}
		plain := h.send(true, ":method", "GET", ":scheme", "https", ":path", "/x", ":authority", "shop")
		if status := h.answer(plain); status != "200" {
			h.Error("a request beside WebSockets: ", status)
		}
		if n := g.Servers()[0].InFlight; n != 2 {
			h.Error("in flight: ", n)
		}
		h.say(ws, "leave") // the app hangs up
		if got := h.hear(ws); got != "ended" || h.ended[ws] != "end" {
			h.Error(got, h.ended)
		}
		done := make(chan struct{})
		go func() { defer close(done); g.CloseTunnels() }() // so does the gateway
		if got := h.hear(other); got != "\x03\xe9" {
			h.Errorf("%q, want the code 1001", got)
		}
		h.f.WriteData(other, true, []byte{0x88, 0x80, 0, 0, 0, 0})
		if got := h.hear(other); got != "ended" || h.ended[other] != "end" {
			h.Error(got, h.ended)
		}
		<-done
	})
}

// A client that ends its side, or resets the stream, is gone for the server too.
func TestWebSocketOverHTTP2IsLeft(t *testing.T) {
	sockets(t, func(h *rawHTTP2, g *gateway.Gateway, _ func() []string) {
		for _, how := range []string{"end", "reset"} {
			ws := h.connect("/ws")
			h.answer(ws)
			if how == "end" {
				h.f.WriteData(ws, true, nil)
				h.until(func() bool { return h.ended[ws] != "" })
			} else {
				h.f.WriteRSTStream(ws, http2.ErrCodeCancel)
			}
			for limit := time.Now().Add(time.Minute); g.Servers()[0].InFlight > 0; {
				if time.Now().After(limit) {
					h.Fatal(how, ": the server still has it")
				}
				<-time.After(time.Millisecond)
			}
		}
	})
}

func TestWebSocketOverHTTP2IsRefused(t *testing.T) {
	sockets(t, func(h *rawHTTP2, _ *gateway.Gateway, seen func() []string) {
		for path, want := range map[string]string{"/forbidden": "403", "/no-socket": "502", "/liar": "502"} {
			if got := h.answer(h.connect(path)); got != want {
				h.Errorf("%s: %s, want %s", path, got, want)
			}
		}
		n := len(seen())
		if got := h.answer(h.send(false, ":method", "CONNECT", ":protocol", "connect-udp", ":scheme", "https", ":path", "/x", ":authority", "shop")); got != "501" {
			h.Error("another protocol: ", got)
		}
		if got := h.answer(h.send(true, ":method", "GET", ":protocol", "websocket", ":scheme", "https", ":path", "/x", ":authority", "shop")); got != "400" {
			h.Error("a protocol without CONNECT: ", got)
		}
		if got := h.answer(h.send(false, ":method", "CONNECT", ":authority", "shop:80")); got != "501" {
			h.Error("CONNECT: ", got)
		}
		if list := seen(); len(list) != n {
			h.Error("the app saw ", list[n:])
		}
	})
}
