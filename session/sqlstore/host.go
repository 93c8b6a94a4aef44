// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// host is a server with the statements that were prepared for it.
type host struct {
	Host
	d *Dialect

	mu       sync.Mutex
	prepared map[prepareKey]*sql.Stmt
}

type prepareKey struct {
	db   *sql.DB
	text string
}

// reads is where to send what only reads.
func (h *host) reads() *sql.DB {
	if h.Reads != nil {
		return h.Reads
	}
	return h.DB
}

func (h *host) stmt(ctx context.Context, db *sql.DB, text string) (*sql.Stmt, error) {
	key := prepareKey{db, text}
	h.mu.Lock()
	st := h.prepared[key]
	h.mu.Unlock()
	if st != nil {
		return st, nil
	}
	st, err := db.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if other := h.prepared[key]; other != nil { // somebody was faster
		_ = st.Close()
		return other, nil
	}
	if h.prepared == nil {
		h.prepared = make(map[prepareKey]*sql.Stmt)
	}
	h.prepared[key] = st
	return st, nil
}

// exec returns how many rows a statement changed.
func (h *host) exec(ctx context.Context, s statement, args ...any) (int64, error) {
	var res sql.Result
	var err error
	if h.d.Prepare {
		var st *sql.Stmt
		if st, err = h.stmt(ctx, h.DB, s.text); err == nil {
			res, err = st.ExecContext(ctx, s.args(args)...)
		}
	} else {
		res, err = h.DB.ExecContext(ctx, s.text, s.args(args)...)
	}
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// row reads one row; sql.ErrNoRows if there is none.
func (h *host) row(ctx context.Context, db *sql.DB, s statement, args []any, into ...any) error {
	if !h.d.Prepare {
		return db.QueryRowContext(ctx, s.text, s.args(args)...).Scan(into...)
	}
	st, err := h.stmt(ctx, db, s.text)
	if err != nil {
		return err
	}
	return st.QueryRowContext(ctx, s.args(args)...).Scan(into...)
}

// named says which server an error came from.
func (h *host) named(err error) error { return fmt.Errorf("%s %s: %w", h.d.Name, h.Name, err) }

// probe asks the server how it is, and names it in the error.
func (h *host) probe(ctx context.Context) (State, error) {
	patience := probeTimeout
	if end, ok := ctx.Deadline(); ok { // the call itself needs time as well
		patience = max(time.Until(end)/4, probeTimeout/10)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s, err := h.d.Probe(ctx, h.DB)
	if err != nil {
		return s, h.named(err)
	}
	return s, nil
}

// probeTimeout bounds one look at a server, unless a call has more time.
const probeTimeout = time.Second

// servers are those of one database, and know which takes writes.
type servers struct {
	hosts   []*host
	current atomic.Pointer[host]
	era     atomic.Uint64 // the highest that was seen: who has a lower one was replaced
	packet  atomic.Int64
	setting atomic.Pointer[string] // what bounds packets
	suspect atomic.Bool            // a call to the current one failed: look before the next

	turn  chan struct{} // held by who looks
	looks atomic.Uint64
}

func newServers(d *Database) *servers {
	s := &servers{turn: make(chan struct{}, 1)}
	for _, h := range d.Hosts {
		s.hosts = append(s.hosts, &host{Host: h, d: d.Dialect})
	}
	return s
}

// primary returns the server that takes writes, and looks for it if need be.
func (s *servers) primary(ctx context.Context) (*host, error) {
	if h := s.current.Load(); h != nil && !s.suspect.Load() {
		return h, nil
	}
	seen := s.looks.Load()
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-s.turn }()
	if h := s.current.Load(); h != nil && s.looks.Load() != seen && !s.suspect.Load() {
		return h, nil // somebody has looked meanwhile
	}
	return s.look(ctx)
}

// doubt makes the next call look for the primary first.
func (s *servers) doubt(h *host) {
	if s.current.Load() == h {
		s.suspect.Store(true)
	}
}

// look asks all servers at the same time. Whoever calls it has the turn.
func (s *servers) look(ctx context.Context) (*host, error) {
	states, errs := make([]State, len(s.hosts)), make([]error, len(s.hosts))
	var wg sync.WaitGroup
	for i, h := range s.hosts {
		wg.Go(func() { states[i], errs[i] = h.probe(ctx) })
	}
	wg.Wait()
	n, err := s.choose(states, errs)
	s.looks.Add(1)
	if err != nil {
		return nil, err
	}
	s.era.Store(max(s.era.Load(), states[n].Era))
	s.packet.Store(states[n].MaxPacket)
	s.setting.Store(&states[n].Setting)
	s.current.Store(s.hosts[n])
	s.suspect.Store(false)
	return s.hosts[n], nil
}

// choose returns which server is the primary: the one that takes writes, and
// nobody else with a higher era does or ever did.
func (s *servers) choose(states []State, errs []error) (int, error) {
	best, rivals := -1, []string(nil)
	newest := s.era.Load()
	for i := range states {
		if errs[i] == nil && states[i].ReadOnly == "" {
			newest = max(newest, states[i].Era)
		}
	}
	var why []error
	for i, h := range s.hosts {
		switch {
		case errs[i] != nil:
			why = append(why, errs[i])
		case states[i].ReadOnly != "":
			why = append(why, h.named(&readOnlyError{states[i].ReadOnly}))
		case states[i].Era < newest:
			why = append(why, h.named(&readOnlyError{fmt.Sprintf("it was replaced: it has timeline %d, and the primary is on %d", states[i].Era, newest)}))
		default:
			rivals = append(rivals, h.Name)
			if best < 0 || h == s.current.Load() {
				best = i
			}
		}
	}
	switch {
	case len(rivals) > 1 && (best < 0 || s.hosts[best] != s.current.Load()):
		return 0, fmt.Errorf("%w: %q: make all but the primary read-only", errRivals, rivals)
	case best >= 0:
		return best, nil
	default:
		return 0, &noPrimaryError{errors.Join(why...)}
	}
}

var errRivals = errors.New("several servers take writes")

// readOnlyError: the server does not take writes.
type readOnlyError struct{ why string }

func (e *readOnlyError) Error() string { return "it takes no writes: " + e.why }

// noPrimaryError: of no server is it known that it takes writes.
type noPrimaryError struct{ error }

func (e *noPrimaryError) Unwrap() error { return e.error }
