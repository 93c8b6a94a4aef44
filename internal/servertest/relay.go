// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package servertest

import (
	"net"
	"sync"
	"testing"
	"time"
)

// Relay stands between clients and a server on 127.0.0.1, and does to their
// connections what its Fault says. It is safe for concurrent use.
type Relay struct {
	listener net.Listener
	wg       sync.WaitGroup

	mu      sync.Mutex
	target  string
	fault   Fault
	changed chan struct{} // closed when the fault is another one
	links   map[*link]bool
	answers int // pieces of answers since the fault was set
	lost    chan struct{}
	closed  bool
}

// link is one connection of a client and the one made for it.
type link struct {
	client, server net.Conn // server is nil until it is made
	spoiled        bool     // it lost bytes
	done           chan struct{}
}

// StartRelay relays to a server until the test ends.
func StartRelay(t testing.TB, target string) *Relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &Relay{
		listener: l, target: target, links: make(map[*link]bool),
		changed: make(chan struct{}), lost: make(chan struct{}),
	}
	r.wg.Go(r.accept)
	t.Cleanup(r.close)
	return r
}

// Addr is the host:port for clients.
func (r *Relay) Addr() string { return r.listener.Addr().String() }

// Set does something else from now on, to connections that exist and to new ones.
func (r *Relay) Set(f Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault, r.answers = f, 0
	close(r.changed)
	r.changed, r.lost = make(chan struct{}), make(chan struct{})
	for l := range r.links {
		if f.Mode == Cut || l.spoiled {
			l.reset()
		}
	}
}

// Restore disturbs nothing from now on.
func (r *Relay) Restore() { r.Set(Fault{}) }

// Reset resets the connections that exist.
func (r *Relay) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for l := range r.links {
		l.reset()
	}
}

// Retarget relays new connections to another server, and resets the others.
func (r *Relay) Retarget(target string) {
	r.mu.Lock()
	r.target = target
	r.mu.Unlock()
	r.Reset()
}

// Lost is closed once the present fault has lost something.
func (r *Relay) Lost() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost
}

// Links is how many connections clients have.
func (r *Relay) Links() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.links)
}

func (r *Relay) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.listener.Close()
	r.Reset()
	r.wg.Wait()
}

func (r *Relay) accept() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return
		}
		l := &link{client: client, done: make(chan struct{})}
		r.mu.Lock()
		if r.closed || r.fault.Mode == Cut {
			l.reset()
		} else {
			r.links[l] = true
			r.wg.Go(func() { r.serve(l) })
		}
		r.mu.Unlock()
	}
}

func (r *Relay) serve(l *link) {
	defer func() {
		r.mu.Lock()
		l.reset()
		delete(r.links, l)
		r.mu.Unlock()
	}()
	if !r.connect(l) {
		return
	}
	var back sync.WaitGroup
	back.Go(func() { r.pump(l, l.server, l.client, false) })
	r.pump(l, l.client, l.server, true)
	back.Wait()
}

func (r *Relay) connect(l *link) bool {
	if !r.await(l) {
		return false
	}
	r.mu.Lock()
	target := r.target
	r.mu.Unlock()
	server, err := net.DialTimeout("tcp", target, 5*time.Second)
	if err != nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-l.done:
		server.Close()
		return false
	default:
		l.server = server
		return true
	}
}

// await returns when it is time to do something with a piece; false once the
// link has ended.
func (r *Relay) await(l *link) bool {
	var later <-chan time.Time
	for {
		r.mu.Lock()
		f, changed := r.fault, r.changed
		r.mu.Unlock()
		switch f.Mode {
		case Silent:
			later = nil
		case Slow:
			timer := time.NewTimer(f.Delay)
			defer timer.Stop()
			later = timer.C
		default:
			return true
		}
		select {
		case <-l.done:
			return false
		case <-changed:
		case <-later:
			return true
		}
	}
}

func (r *Relay) pump(l *link, from, to net.Conn, request bool) {
	defer func() {
		r.mu.Lock()
		l.reset()
		r.mu.Unlock()
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil || !r.await(l) {
			return
		}
		lose, answer := r.judge(l, request)
		switch {
		case !lose:
			_, err = to.Write(buf[:n])
		case answer != "":
			_, err = from.Write([]byte(answer))
		}
		if err != nil {
			return
		}
	}
}

// judge says whether a piece is lost and what is answered to it, and keeps the
// books in the same step: no fault ends in between.
func (r *Relay) judge(l *link, request bool) (lose bool, answer string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !request {
		r.answers++
	}
	switch r.fault.Mode {
	case LoseRequests:
		lose = request
	case LoseAnswers:
		lose = !request && r.answers > r.fault.After
	case Answer:
		lose = true
		if request {
			answer = r.fault.Text
		}
	}
	if lose {
		l.spoiled = true
		select {
		case <-r.lost:
		default:
			close(r.lost)
		}
	}
	return lose, answer
}

// reset ends a link with resets; the relay's mu is held.
func (l *link) reset() {
	select {
	case <-l.done:
		return
	default:
		close(l.done)
	}
	for _, c := range []net.Conn{l.client, l.server} {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
			tcp.Close()
		}
	}
}
