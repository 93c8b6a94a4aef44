// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package edge_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/belay-ha/belay/server/internal/gateway/edge"
)

// streams is a client of HTTP/2 that notes what it is told, and when.
type streams struct {
	net.Conn
	f     *http2.Framer
	start time.Time

	mu    sync.Mutex
	told  []string // like "3 200 after 1s", "goaway after 6s", "closed after 20s"
	wrote sync.Mutex
}

func newStreams(c net.Conn) *streams {
	s := &streams{Conn: c, f: http2.NewFramer(c, c), start: time.Now()}
	s.f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	go s.listen()
	io.WriteString(c, http2.ClientPreface)
	s.write(func() error { return s.f.WriteSettings() })
	return s
}

func (s *streams) write(f func() error) {
	s.wrote.Lock()
	defer s.wrote.Unlock()
	_ = f() // the other end may have closed
}

func (s *streams) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	what += fmt.Sprint(" after ", time.Since(s.start).Round(100*time.Millisecond))
	if !slices.Contains(s.told, what) {
		s.told = append(s.told, what)
	}
}

func (s *streams) listen() {
	for {
		frame, err := s.f.ReadFrame()
		if err != nil {
			s.note("closed")
			return
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				s.write(s.f.WriteSettingsAck)
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				s.write(func() error { return s.f.WritePing(true, f.Data) })
			}
		case *http2.GoAwayFrame:
			s.note("goaway")
		case *http2.RSTStreamFrame:
			s.note(fmt.Sprint(f.StreamID, " reset"))
		case *http2.MetaHeadersFrame:
			s.note(fmt.Sprint(f.StreamID, " ", f.PseudoValue("status")))
		case *http2.DataFrame:
			if f.StreamEnded() {
				s.note(fmt.Sprint(f.StreamID, " end"))
			}
		}
	}
}

func (s *streams) get(id uint32, path string) {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, kv := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "x"}, {":path", path}} {
		_ = e.WriteField(hpack.HeaderField{Name: kv[0], Value: kv[1]})
	}
	s.write(func() error {
		return s.f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b.Bytes(), EndHeaders: true, EndStream: true})
	})
}

// goawayFirst puts a GOAWAY before what came in the same instant: which of the two
// goes first is nobody's promise.
func goawayFirst(told []string) []string {
	for i := 1; i < len(told); i++ {
		at, ok := strings.CutPrefix(told[i], "goaway")
		for j := i; ok && j > 0 && strings.HasSuffix(told[j-1], at); j-- {
			told[j-1], told[j] = told[j], told[j-1]
		}
	}
	return told
}

// overHTTP2 runs a test in a bubble with a server whose answers take as long as
// their path says.
func overHTTP2(t *testing.T, test func(s *edge.Server, stop func(), c *streams), want ...string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := edge.New(edge.Options{
			Logger: slog.New(slog.DiscardHandler), Grace: time.Minute, HandOver: time.Hour, Lame: 5 * time.Second, H2C: true,
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				d, _ := time.ParseDuration(r.URL.Path[1:])
				time.Sleep(d)
				io.WriteString(w, "ok")
			}),
		})
		p := &pipes{make(chan net.Conn), make(chan struct{})}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx, p) }()
		c := newStreams(p.dial().Conn)
		synctest.Wait()
		test(s, cancel, c)
		if err := <-done; err != nil {
			t.Error(err)
		}
		cancel()
		time.Sleep(time.Minute)
		c.Close()
		c.mu.Lock()
		defer c.mu.Unlock()
		if !slices.Equal(goawayFirst(c.told), want) {
			t.Errorf("the client was told %q, want %q", c.told, want)
		}
	})
}

// A stop tells clients of HTTP/2 at once that nothing more is taken, and lets what
// is in flight end.
func TestStopOverHTTP2(t *testing.T) {
	overHTTP2(t, func(_ *edge.Server, stop func(), c *streams) {
		c.get(1, "/20s")
		synctest.Wait()
		stop()
	}, "goaway after 0s", "1 200 after 20s", "1 end after 20s", "closed after 21s")
}

// After another process has taken over, the next answer brings the word; what was
// in flight before ends as if nothing had happened.
func TestHandOverOverHTTP2(t *testing.T) {
	overHTTP2(t, func(s *edge.Server, _ func(), c *streams) {
		c.get(1, "/20s")
		synctest.Wait()
		s.HandOver()
		time.Sleep(time.Second)
		c.get(3, "/0s")
	}, "goaway after 1s", "3 200 after 1s", "3 end after 1s", "1 200 after 20s", "1 end after 20s", "closed after 21s")
}

// A connection that is idle is told, too, and closed.
func TestHandOverOfIdleHTTP2(t *testing.T) {
	overHTTP2(t, func(s *edge.Server, _ func(), c *streams) {
		s.HandOver()
	}, "goaway after 5s", "closed after 6s")
}
