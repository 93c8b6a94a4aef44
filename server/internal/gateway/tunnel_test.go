// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/belay-ha/belay/server/internal/gateway"
	"github.com/belay-ha/belay/server/internal/gateway/route"
)

// chat is an app that greets everybody who comes by WebSocket, and echoes.
func chat(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			io.WriteString(w, name)
			return
		}
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(-1)
		ctx := context.Background()
		_ = c.Write(ctx, websocket.MessageText, []byte("this is "+name))
		for {
			kind, msg, err := c.Read(ctx)
			if err != nil || c.Write(ctx, kind, msg) != nil {
				return
			}
		}
	}
}

// hear reads the next message.
func hear(t *testing.T, c *websocket.Conn) string {
	t.Helper()
	_, msg, err := c.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return string(msg)
}

// A WebSocket that has to end is told so in its own language: 1001, going away.
func TestWebSocketsAreTold(t *testing.T) {
	for name, tc := range map[string]struct {
		end   func(*world)
		after time.Duration
		both  bool // that on app2 ends, too
	}{
		"drain":       {func(w *world) { _ = w.g.Drain("app1", 10*time.Second) }, 10 * time.Second, false},
		"server_gone": {func(w *world) { w.reload(func(c *gateway.Config) { without("app1")(c); c.TunnelGrace = time.Minute }) }, time.Minute, false},
		"route_gone": {func(w *world) {
			w.reload(func(c *gateway.Config) {
				c.Routes[0].Pattern, c.TunnelGrace = route.Pattern{Host: "else"}, time.Minute
			})
		}, time.Minute, true},
		"stop": {func(w *world) { w.stop() }, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, 2, func(_ *gateway.Config, apps []*app) {
				for _, a := range apps {
					a.handler = chat(a.name)
				}
			}, func(w *world) {
				open := func(server string) *websocket.Conn {
					h := http.Header{"Cookie": {w.stick(server)}}
					c, _, err := websocket.Dial(w.Context(), "ws://gateway:80/chat", &websocket.DialOptions{HTTPClient: w.client, HTTPHeader: h})
					if err != nil {
						w.Fatal(err)
					}
					if msg := hear(w.T, c); msg != "this is "+server {
						w.Fatal(msg)
					}
					return c
				}
				first, second := open("app1"), open("app2")
				defer second.CloseNow()
				start := time.Now()
				tc.end(w)
				_, _, err := first.Read(w.Context())
				if websocket.CloseStatus(err) != websocket.StatusGoingAway || time.Since(start) != tc.after {
					w.Errorf("%v after %v", err, time.Since(start))
				}
				if tc.both {
					if _, _, err := second.Read(w.Context()); websocket.CloseStatus(err) != websocket.StatusGoingAway {
						w.Error(err)
					}
					return
				}
				time.Sleep(time.Hour)
				_ = second.Write(w.Context(), websocket.MessageText, []byte("still there?"))
				if msg := hear(w.T, second); msg != "still there?" {
					w.Error(msg)
				}
			})
		})
	}
}

// What a client gets in the end is whole: the last frame of the server, then the
// gateway's. Where that cannot be, nothing is put between.
func TestNothingIsPutIntoAFrame(t *testing.T) {
	const bye = "\x88\x02\x03\xe9"
	long := "\x82\x7e\x10\x00" + strings.Repeat("x", 4096)
	for name, tc := range map[string]struct {
		proto        string
		before, rest string // around the deadline; rest comes half a second after
		want         string
		took         time.Duration
	}{
		"nothing_yet":       {"websocket", "", "", bye, 0},
		"between_frames":    {"websocket", "\x81\x02hi\x82\x00", "", "\x81\x02hi\x82\x00" + bye, 0},
		"in_a_frame":        {"websocket", "\x81\x04he", "y!\x81\x02no", "\x81\x04hey!" + bye, 500 * time.Millisecond},
		"in_a_head":         {"websocket", "\x81", "\x01h\x81\x02no", "\x81\x01h" + bye, 500 * time.Millisecond},
		"in_a_long_frame":   {"websocket", long[:3000], long[3000:], long + bye, 500 * time.Millisecond},
		"never_whole":       {"websocket", "\x81\x7dhe", "y", "\x81\x7dhey", time.Second},
		"closed_by_the_app": {"websocket", "\x88\x02\x03\xe8", "\x81\x02no", "\x88\x02\x03\xe8\x81\x02no", time.Second},
		"no_frames":         {"websocket", "\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff", "", "\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff", time.Second},
		"no_websocket":      {"chat", "hello", " you", "hello", 0},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, 1, func(_ *gateway.Config, apps []*app) {
				apps[0].handler = func(w http.ResponseWriter, r *http.Request) {
					c, rw, err := http.NewResponseController(w).Hijack()
					if err != nil {
						return
					}
					go func() {
						defer c.Close()
						// Some of it right behind the head, some later.
						half := len(tc.before) / 2
						io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+tc.proto+"\r\n\r\n"+tc.before[:half])
						time.Sleep(time.Second)
						io.WriteString(c, tc.before[half:])
						time.Sleep(9*time.Second + 500*time.Millisecond)
						io.WriteString(c, tc.rest)
						_, _ = io.Copy(io.Discard, rw)
					}()
				}
			}, func(w *world) {
				c, br := w.raw("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: " + tc.proto + "\r\n\r\n")
				defer c.Close()
				if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 101 {
					w.Fatal(resp, err)
				}
				start := time.Now()
				if err := w.g.Drain("app1", 10*time.Second); err != nil {
					w.Fatal(err)
				}
				got := make([]byte, len(tc.want))
				_, _ = io.ReadFull(br, got)
				took := time.Since(start) - 10*time.Second
				if string(got) == tc.want && strings.HasSuffix(tc.want, bye) {
					if took != tc.took {
						w.Errorf("after %v, want %v", took, tc.took)
					}
					synctest.Wait()
					if _, err := io.WriteString(c, "\x88\x82\x00\x00\x00\x00\x03\xe9"); err != nil {
						w.Error("the connection was reset under the client's own farewell:", err)
					}
					c.Close()
				}
				if rest, _ := io.ReadAll(br); string(got) != tc.want || len(rest) != 0 {
					w.Errorf("got %q and %q, want %q", got, rest, tc.want)
				}
				if took := time.Since(start) - 10*time.Second; took > time.Second || !strings.HasSuffix(tc.want, bye) && took != tc.took {
					w.Errorf("ended after %v, want %v", took, tc.took)
				}
				synctest.Wait()
				if n := w.g.Servers()[0].InFlight; n != 0 {
					w.Error("in flight:", n)
				}
			})
		})
	}
}

// Messages of any size arrive whole over real sockets, and the close frame after
// them, whether or not the kernel moved them.
func TestWebSocketsOverRealSockets(t *testing.T) {
	app := httptest.NewServer(chat("app"))
	defer app.Close()
	secure, g1 := front(t, address(app), nil)
	plain, g2 := front(t, address(app), nil)
	plain = httptest.NewServer(plain.Config.Handler)
	defer plain.Close()
	for s, g := range map[*httptest.Server]*gateway.Gateway{secure: g1, plain: g2} {
		c, _, err := websocket.Dial(t.Context(), s.URL, &websocket.DialOptions{HTTPClient: s.Client()})
		if err != nil {
			t.Fatal(err)
		}
		c.SetReadLimit(-1)
		if msg := hear(t, c); msg != "this is app" {
			t.Error(msg)
		}
		for _, size := range []int{0, 1, 125, 126, 4096, 65535, 65536, 3 << 20} {
			msg := bytes.Repeat([]byte("0123456789"), size/10+1)[:size]
			if err := c.Write(t.Context(), websocket.MessageBinary, msg); err != nil {
				t.Fatal(err)
			}
			if got := hear(t, c); got != string(msg) {
				t.Errorf("%d bytes came back as %d", size, len(got))
			}
		}
		_ = g.Drain("app", time.Nanosecond)
		if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusGoingAway {
			t.Error(err)
		}
		c.CloseNow()
	}
}
