// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
)

// request and answer are lines of JSON between a remote store and its server.
type request struct {
	Op      string
	ID      session.ID
	Rec     []byte
	IfRev   session.Rev
	Expires time.Time
	Owner   string
	Lease   session.Lease
	TTL     time.Duration
	Nonce   string // of a call, so that one sent twice is carried out once
}

type answer struct {
	Err     string
	Rec     []byte
	Entries []session.Entry
	Epoch   uint64
	Lease   session.Lease
}

// server is a store in memory behind a port, correct but for one flaw. What it
// has "on disk" is kept over a restart.
type server struct {
	t    *testing.T
	flaw string
	addr string

	mu       sync.Mutex
	listener net.Listener // nil: dead
	conns    map[net.Conn]bool
	wg       sync.WaitGroup
	store    *memstore.Store // of sessions
	owners   *memstore.Store
	leases   *memstore.Store
	done     map[string]answer // by nonce
	deleted  map[session.ID]session.Record
	recent   []session.ID
	failing  bool
	thawed   chan struct{} // closed: not frozen
}

func startServer(t *testing.T, flaw string) *server {
	t.Helper()
	s := &server{t: t, flaw: flaw, addr: "127.0.0.1:0", thawed: make(chan struct{})}
	close(s.thawed)
	s.empty()
	s.start()
	t.Cleanup(s.kill)
	return s
}

func (s *server) has(flaw string) bool { return s.flaw == flaw }

func newMemory(t *testing.T) *memstore.Store {
	t.Helper()
	store, err := memstore.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func (s *server) empty() {
	s.store, s.owners, s.leases = newMemory(s.t), newMemory(s.t), newMemory(s.t)
	s.done, s.deleted, s.recent = make(map[string]answer), make(map[session.ID]session.Record), nil
}

func (s *server) start() {
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addr, s.listener, s.conns = l.Addr().String(), l, make(map[net.Conn]bool)
	s.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			if s.listener == l {
				s.conns[conn] = true
				s.wg.Go(func() { s.serve(conn) })
			} else {
				conn.Close()
			}
			s.mu.Unlock()
		}
	})
}

func (s *server) kill() {
	s.mu.Lock()
	if s.listener != nil {
		s.listener.Close()
	}
	s.listener = nil
	for conn := range s.conns {
		conn.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *server) restart() {
	ctx := context.Background()
	if s.has("server: the newest writes are not on disk") {
		_ = s.store.Delete(ctx, s.recent...)
	}
	if s.has("server: deletions are not on disk") {
		for id, rec := range s.deleted {
			_ = s.store.Create(ctx, id, rec)
		}
	}
	if s.has("server: index and leases are not on disk") {
		s.owners, s.leases = newMemory(s.t), newMemory(s.t)
	}
	s.start()
}

func (s *server) restartEmpty() { s.empty(); s.start() }

func (s *server) freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.thawed = make(chan struct{})
}

func (s *server) thaw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.thawed)
}

func (s *server) fail(on bool) func() {
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.failing = on
	}
}

func (s *server) serve(conn net.Conn) {
	defer conn.Close()
	in, out := json.NewDecoder(conn), json.NewEncoder(conn)
	for {
		var req request
		if in.Decode(&req) != nil {
			return
		}
		s.mu.Lock()
		thawed := s.thawed
		s.mu.Unlock()
		<-thawed
		if out.Encode(s.handle(req)) != nil {
			return
		}
	}
}

func (s *server) handle(req request) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a, ok := s.done[req.Nonce]; ok && req.Nonce != "" {
		return a
	}
	if s.failing {
		return answer{Err: "disk full"}
	}
	ctx := context.Background()
	var a answer
	var err error
	rec, recErr := session.ParseRecord(req.Rec)
	if len(req.Rec) > 0 && recErr != nil {
		return answer{Err: recErr.Error()}
	}
	switch req.Op {
	case "load":
		rec, err = s.store.Load(ctx, req.ID)
		a.Rec = session.AppendRecord(nil, &rec)
	case "create":
		err = s.store.Create(ctx, req.ID, rec)
		s.recent = append(s.recent, req.ID)
	case "update":
		err = s.store.Update(ctx, req.ID, rec, req.IfRev)
	case "touch":
		err = s.store.Touch(ctx, req.ID, req.Expires)
	case "delete":
		if old, e := s.store.Load(ctx, req.ID); e == nil {
			s.deleted[req.ID] = old
		}
		err = s.store.Delete(ctx, req.ID)
	case "index":
		_, err = s.owners.Index(ctx, req.Owner, req.ID, req.Expires)
	case "unindex":
		err = s.owners.Unindex(ctx, req.Owner, req.ID)
	case "entries":
		a.Entries, err = s.owners.Entries(ctx, req.Owner)
	case "epoch":
		a.Epoch, err = s.owners.Epoch(ctx, req.Owner)
	case "raise":
		err = s.owners.RaiseEpoch(ctx, req.Owner)
	case "lock":
		a.Lease, err = s.leases.Lock(ctx, req.ID, req.TTL)
	case "extend":
		err = s.leases.Extend(ctx, req.ID, req.Lease, req.TTL)
	case "unlock":
		err = s.leases.Unlock(ctx, req.ID, req.Lease)
	case "ping":
	default:
		err = errors.New("unknown call")
	}
	if err != nil {
		a.Err = err.Error()
	}
	if req.Nonce != "" {
		s.done[req.Nonce] = a
	}
	return a
}
