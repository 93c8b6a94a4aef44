// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package edge_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway/edge"
)

// seen is what a test can see of the server from outside.
type seen struct {
	failed atomic.Int64 // handshakes
	ended  atomic.Bool  // Run has returned
}

// shaking runs a test in a bubble with a server that has TLS.
func shaking(t *testing.T, test func(t *testing.T, s *edge.Server, p *pipes, seen *seen)) {
	cert := newAuthority(t).issue(t, "a.example")
	synctest.Test(t, func(t *testing.T) {
		var seen seen
		s := edge.New(edge.Options{
			Logger: slog.New(slog.DiscardHandler), Grace: 10 * time.Second, HandOver: time.Hour, Lame: 5 * time.Second,
			TLS:    edge.Secure([]tls.Certificate{cert}, 0, edge.ClientCertsNone, nil),
			Failed: func(reason string) { seen.failed.Add(map[string]int64{"handshake": 1}[reason]) },
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprint(w, r.TLS.ServerName)
			}),
		})
		p := &pipes{make(chan net.Conn), make(chan struct{})}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() {
			err := s.Run(ctx, p)
			seen.ended.Store(true)
			done <- err
		}()
		test(t, s, p, &seen)
		start := time.Now()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > 5*time.Second { // net/http gives new connections that long
			t.Error("who has not finished his handshake holds up the end for", took)
		}
	})
}

// secured does a handshake over a connection.
func secured(t *testing.T, c net.Conn) *client {
	t.Helper()
	conn := tls.Client(c, &tls.Config{InsecureSkipVerify: true, ServerName: "a.example"})
	if err := conn.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &client{conn, bufio.NewReader(conn)}
}

func TestHandshakesHaveATimeAndHoldUpNobody(t *testing.T) {
	shaking(t, func(t *testing.T, _ *edge.Server, p *pipes, seen *seen) {
		silent, other := p.dial(), p.dial()
		c := secured(t, other.Conn)
		if resp := c.get("/"); resp == nil || resp.StatusCode != 200 {
			t.Error(resp)
		}
		start := time.Now()
		if _, err := silent.Read(make([]byte, 1)); err == nil || time.Since(start) != 10*time.Second {
			t.Error("a client that says nothing is closed after", time.Since(start), err)
		}
		synctest.Wait()
		if n := seen.failed.Load(); n != 1 {
			t.Error("counted:", n)
		}
		if resp := c.get("/"); resp == nil || resp.StatusCode != 200 {
			t.Error(resp)
		}
		other.Close()
	})
}

func TestHandshakesUnderWayAtTheEnd(t *testing.T) {
	shaking(t, func(t *testing.T, _ *edge.Server, p *pipes, _ *seen) {
		p.dial()
		synctest.Wait()
	})
}

// Whoever was connected when another process took over is served by this one.
func TestLameDuckFinishesHandshakes(t *testing.T) {
	shaking(t, func(t *testing.T, s *edge.Server, p *pipes, seen *seen) {
		early := p.dial()
		synctest.Wait()
		s.HandOver()
		time.Sleep(time.Second)
		c := secured(t, early.Conn)
		if resp := c.get("/"); resp == nil || resp.StatusCode != 200 || !resp.Close {
			t.Error(resp)
		}
		early.Close()
		time.Sleep(time.Second)
		if !seen.ended.Load() {
			t.Error("it waits for somebody who has left")
		}
	})
}

// The handler learns what was agreed on, over both protocols, and tickets are
// good after the configuration has changed.
func TestTLSReachesTheHandler(t *testing.T) {
	ca := newAuthority(t)
	shown := ca.issue(t, "user")
	conf := func() *tls.Config {
		return edge.Secure([]tls.Certificate{ca.issue(t, "a.example")}, 0, edge.ClientCertsRequired, ca.pool())
	}
	s, address := serve(t, edge.Options{TLS: conf(), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Proto, " ", r.TLS.ServerName, " ", r.TLS.PeerCertificates[0].Subject.CommonName, " ", r.TLS.DidResume)
	})})
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		tr := &http.Transport{
			Protocols: new(http.Protocols), DisableKeepAlives: true,
			TLSClientConfig: &tls.Config{
				RootCAs: ca.pool(), ServerName: "a.example", Certificates: []tls.Certificate{shown},
				ClientSessionCache: tls.NewLRUClientSessionCache(1),
			},
		}
		tr.Protocols.SetHTTP1(proto == "HTTP/1.1")
		tr.Protocols.SetHTTP2(proto == "HTTP/2.0")
		for _, resumed := range []bool{false, true} {
			resp, err := (&http.Client{Transport: tr}).Get("https://" + address)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if want := fmt.Sprint(proto, " a.example user ", resumed); string(b) != want || err != nil {
				t.Errorf("%s, want %s (%v)", b, want, err)
			}
			s.SetTLS(conf())
		}
	}
}
