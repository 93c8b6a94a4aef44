// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/belay-ha/belay/server/internal/gateway"
	"github.com/belay-ha/belay/server/internal/gateway/health"
	"github.com/belay-ha/belay/server/internal/gateway/upstream"
)

// h2server speaks HTTP/2 by hand. It answers what end says for the n-th request
// that came, counted over all connections: how it ends, or nil for a 200.
type h2server struct {
	n   atomic.Int64
	end func(n int64, fr *http2.Framer, stream uint32) (hangUp bool, answer bool)
}

func (s *h2server) serve(c net.Conn) {
	defer c.Close()
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c, preface); err != nil {
		return
	}
	fr := http2.NewFramer(c, c)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = fr.WriteSettings()
	path := ""
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = fr.WriteSettingsAck()
			}
			continue
		case *http2.MetaHeadersFrame:
			path = f.PseudoValue("path")
			if !f.StreamEnded() {
				continue
			}
		case *http2.DataFrame:
			if !f.StreamEnded() {
				continue
			}
		default:
			continue
		}
		hangUp, answer := false, true
		if path == "/" {
			hangUp, answer = s.end(s.n.Add(1), fr, f.Header().StreamID)
		}
		if answer {
			var b bytes.Buffer
			_ = hpack.NewEncoder(&b).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
			_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: f.Header().StreamID, BlockFragment: b.Bytes(), EndHeaders: true, EndStream: true})
		}
		if hangUp {
			return
		}
	}
}

// A POST over HTTP/2 that may have run never runs again; one that the server says
// it did not look at does.
func TestHTTP2RunsAPostOnce(t *testing.T) {
	reset := func(code http2.ErrCode) func(int64, *http2.Framer, uint32) (bool, bool) {
		return func(n int64, fr *http2.Framer, stream uint32) (bool, bool) {
			if n == 1 {
				_ = fr.WriteRSTStream(stream, code)
			}
			return false, n > 1
		}
	}
	for name, tc := range map[string]struct {
		end    func(int64, *http2.Framer, uint32) (bool, bool)
		status int
		came   int64
	}{
		"protocol_error": {reset(http2.ErrCodeProtocol), 502, 1},
		"internal_error": {reset(http2.ErrCodeInternal), 502, 1},
		"refused":        {reset(http2.ErrCodeRefusedStream), 200, 2},
		"cut":            {func(int64, *http2.Framer, uint32) (bool, bool) { return true, false }, 502, 1},
		"going_away": {func(n int64, fr *http2.Framer, _ uint32) (bool, bool) {
			if n == 1 {
				_ = fr.WriteGoAway(0, http2.ErrCodeNo, nil)
			}
			return n == 1, n > 1
		}, 200, 2},
	} {
		for _, body := range []string{"", "order"} {
			t.Run(fmt.Sprint(name, "/body=", body), func(t *testing.T) {
				ln, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				srv := &h2server{end: tc.end}
				var wg sync.WaitGroup
				wg.Go(func() {
					for {
						c, err := ln.Accept()
						if err != nil {
							return
						}
						go srv.serve(c)
					}
				})
				t.Cleanup(func() { ln.Close(); wg.Wait() })
				s, g := front(t, ln.Addr().String(), func(p *gateway.Pool) {
					p.Protocol = upstream.H2C
					p.Health.Check = health.Check{Path: "/healthz"}
				})
				resp, err := s.Client().Post(s.URL, "text/plain", strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				b, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				unknown := resp.Header.Get(gateway.HeaderOutcome) == "unknown"
				if resp.StatusCode != tc.status || unknown != (tc.status != http.StatusOK) || srv.n.Load() != tc.came {
					t.Errorf("%d %s after %d requests, want %d after %d; %+v", resp.StatusCode, b, srv.n.Load(), tc.status, tc.came, g.Servers())
				}
			})
		}
	}
}
