// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore_test

import (
	"bytes"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// proxy passes bytes on, and at will loses an answer together with its connection.
type proxy struct {
	listener net.Listener
	mu       sync.Mutex
	command  string        // whose answer is lost next
	instead  func()        // nil: none
	awaited  string        // answers are held until a request names it
	seen     chan struct{} // closed then; nil: none are held
}

func newProxy(t *testing.T, server string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l}
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { l.Close() })
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			backend, err := net.Dial("tcp", server)
			if err != nil {
				client.Close()
				continue
			}
			var doomed atomic.Bool
			wg.Go(func() { defer backend.Close(); p.requests(backend, client, &doomed) })
			wg.Go(func() { defer client.Close(); p.answers(client, backend, &doomed) })
		}
	})
	return p
}

// requests passes requests on. One that names the armed command dooms its
// connection; a ping of the client's own does not.
func (p *proxy) requests(backend io.Writer, client io.Reader, doomed *atomic.Bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		if p.instead != nil && bytes.Contains(buf[:n], []byte(p.command)) {
			doomed.Store(true)
		}
		if p.awaited != "" && bytes.Contains(buf[:n], []byte(p.awaited)) {
			p.awaited = ""
			close(p.seen)
		}
		p.mu.Unlock()
		if _, err := backend.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) answers(client io.Writer, backend io.Reader, doomed *atomic.Bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := backend.Read(buf)
		if err != nil {
			return
		}
		if doomed.Load() {
			p.mu.Lock()
			instead := p.instead
			p.instead = nil
			p.mu.Unlock()
			if instead != nil {
				instead()
			}
			return
		}
		p.mu.Lock()
		seen := p.seen
		p.mu.Unlock()
		if seen != nil {
			<-seen
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}

// loseNext loses the answer to the next such command, and calls f before the
// connection is closed.
func (p *proxy) loseNext(command string, f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.command, p.instead = command, f
}

// holdUntil holds all answers until a request names such a command. It reports
// whether one did, and passes on what is held.
func (p *proxy) holdUntil(command string) (came func() bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.awaited, p.seen = command, make(chan struct{})
	return func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		came := p.awaited == ""
		if !came {
			close(p.seen)
		}
		p.awaited, p.seen = "", nil
		return came
	}
}

func (p *proxy) mustHaveLost(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.instead != nil {
		t.Error("no answer was lost: the test shows nothing")
	}
}

func (p *proxy) url() string { return "redis://" + p.listener.Addr().String() }
