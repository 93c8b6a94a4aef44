// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package edge_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/belay-ha/belay/server/internal/gateway/edge"
)

// counting is a listener that counts what is written to its connections.
type counting struct {
	net.Listener
	writes atomic.Int64
}

type countingConn struct {
	net.Conn
	l *counting
}

func (l *counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &countingConn{c, l}, nil
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.l.writes.Add(1)
	return c.Conn.Write(p)
}

// A head and a body that is more than net/http's buffer go out as one.
func TestTogether(t *testing.T) {
	ca := newAuthority(t)
	body := strings.Repeat("0123456789", 1000)
	for name, secure := range map[string]*tls.Config{
		"plain": nil, "tls": edge.Secure([]tls.Certificate{ca.issue(t, "a.example")}, 0, edge.ClientCertsNone, nil),
	} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			counted := &counting{Listener: ln}
			failed := errors.New("failed")
			serveOn(t, edge.Options{TLS: secure, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				counted.writes.Store(0)
				write := func() error {
					w.Header().Set("Content-Length", "10000")
					_, err := io.WriteString(w, body)
					return errors.Join(err, http.NewResponseController(w).Flush())
				}
				switch r.URL.Path {
				case "/together":
					err = edge.Together(r.Context(), write)
				case "/copied": // net/http may pass it on by ReadFrom
					err = edge.Together(r.Context(), func() error {
						w.Header().Set("Content-Length", "10000")
						_, err := io.Copy(w, struct{ io.Reader }{strings.NewReader(body)})
						return errors.Join(err, http.NewResponseController(w).Flush())
					})
				case "/apart":
					err = write()
				case "/failed":
					if got := edge.Together(r.Context(), func() error { return failed }); got != failed {
						t.Error("what failed inside is not told:", got)
					}
					err = write()
				}
				if err != nil {
					t.Error(err)
				}
			})}, counted)
			c, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			if secure != nil {
				c = tls.Client(c, &tls.Config{RootCAs: ca.pool(), ServerName: "a.example"})
			}
			defer c.Close()
			br := bufio.NewReader(c)
			get := func(path string) int64 {
				if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
				resp, err := http.ReadResponse(br, nil)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(resp.Body); err != nil || string(got) != body {
					t.Errorf("%s: %d bytes, %v", path, len(got), err)
				}
				return counted.writes.Load()
			}
			for range 14 { // at first TLS makes small records
				get("/apart")
			}
			apart := get("/apart")
			if n := get("/together"); n != 1 || apart < 2 {
				t.Errorf("%d writes; without it there are %d", n, apart)
			}
			if n := get("/copied"); n != 1 {
				t.Errorf("%d writes of a copy", n)
			}
			if n := get("/failed"); n != apart {
				t.Errorf("%d writes of what is not to go together, want %d", n, apart)
			}
		})
	}
}

// Over HTTP/2 streams share a connection, and nothing is held.
func TestTogetherOverHTTP2(t *testing.T) {
	ca := newAuthority(t)
	_, address := serve(t, edge.Options{
		TLS: edge.Secure([]tls.Certificate{ca.issue(t, "a.example")}, 0, edge.ClientCertsNone, nil),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			err := edge.Together(r.Context(), func() error {
				_, err := io.WriteString(w, r.Proto)
				return err
			})
			if err != nil {
				t.Error(err)
			}
		}),
	})
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.pool(), ServerName: "a.example"}, ForceAttemptHTTP2: true}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Get("https://" + address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || string(got) != "HTTP/2.0" {
		t.Errorf("%q, %v", got, err)
	}
}
