// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package peerstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/belay-ha/belay/session"
)

// settle is for how long after a change of the view everything is looked for on
// all nodes: until then they may not all have noticed it.
func (s *Store) settle() time.Duration { return s.opts.Silence / 2 }

// ackPatience is how long another node is waited for that could answer at once,
// before it is taken for dead.
func (s *Store) ackPatience() time.Duration { return s.opts.Silence / 4 }

// frozenAfter is shorter than anybody's patience with this node.
func (s *Store) frozenAfter() time.Duration { return s.ackPatience() * 3 / 4 }

// frozen reports whether this process stood still: then others may have taken
// it for dead, and decide in its place.
func (s *Store) frozen(now time.Time) bool {
	return now.UnixNano()-s.tick.Load() > int64(s.frozenAfter())
}

// decide does what was asked for, if it is this node's to decide.
func (s *Store) decide(ctx context.Context, r *request) (status, []byte) {
	began := time.Now()
	if own := s.table.get(r.id); r.op == opLoad && own.entry != nil && s.decides(r.id) && s.sure(own, s.view.Load()) {
		// As it was before the change that is being spread, if one is.
		if !own.live(began) {
			return notFound, nil
		}
		return ok, own.append(nil)
	}
	turn := s.turns[r.id.Hash[1]]
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return unavailable, []byte(ctx.Err().Error())
	}
	if !s.decides(r.id) {
		return notMine, nil
	}
	now, err := s.current(ctx, r)
	for err == nil {
		next, st := step(r, now, s.opts.Lifetime, time.Now())
		if next == nil {
			if st == ok && r.op == opLoad {
				return ok, now.append(nil)
			}
			return st, nil
		}
		var beaten *entry
		if beaten, err = s.spread(ctx, r.id, next); err == nil && beaten == nil {
			if _, room := s.table.merge(r.id, next); !room {
				return full, nil
			}
			s.table.check(r.id, began)
			return ok, nil
		}
		now = beaten // somebody else decided meanwhile: look at it anew
	}
	if errors.Is(err, ErrFull) {
		return full, nil
	}
	return unavailable, []byte(err.Error())
}

// step is what becomes of a session: the entry to write, or nil and the answer.
func step(r *request, e *entry, keep time.Duration, now time.Time) (*entry, status) {
	live := e.live(now)
	switch r.op {
	case opLoad:
		if live {
			return nil, ok
		}
		return nil, notFound
	case opCreate:
		if live {
			return nil, exists
		}
		next, _, good := parseEntry(r.body)
		if !good {
			return nil, corrupt
		}
		if e != nil { // over what is dead
			next.born = e.born + 1
		}
		return next, ok
	case opUpdate:
		if len(r.body) < 16 {
			return nil, corrupt
		}
		next, _, good := parseEntry(r.body[16:])
		ifRev := session.Rev{Term: binary.BigEndian.Uint64(r.body), N: binary.BigEndian.Uint64(r.body[8:])}
		switch {
		case !live:
			return nil, notFound
		case e.rev != ifRev:
			return nil, conflict
		case !good:
			return nil, corrupt
		}
		next.born = e.born
		return next, ok
	case opTouch:
		if !live || len(r.body) != 8 {
			return nil, notFound
		}
		at := int64(binary.BigEndian.Uint64(r.body))
		if at == 0 || e.expires == 0 || at <= e.expires {
			return nil, ok
		}
		next := *e
		next.expires = at
		return &next, ok
	case opDelete:
		if e != nil && e.dead {
			return nil, ok
		}
		return tombstone(e, keep, now), ok
	default:
		return nil, corrupt
	}
}

// decides reports whether this node is the one that decides about a session, as
// far as it can know.
func (s *Store) decides(id session.ID) bool {
	return !s.frozen(time.Now()) && s.view.Load().order(nil, id.Hash)[0].name == s.node
}

// sure reports whether all nodes were asked for a newer entry since the view
// last changed.
func (s *Store) sure(own slot, v *view) bool {
	return own.checked >= v.since.Add(s.settle()).UnixNano()
}

// current is the newest entry, nil if there is none: this node's own, if it is
// sure, else the newest of all.
func (s *Store) current(ctx context.Context, r *request) (*entry, error) {
	v, now, id := s.view.Load(), time.Now(), r.id
	own := s.table.get(id)
	if own.entry != nil && s.sure(own, v) {
		return own.entry, nil
	}
	found, silent, err := s.askAll(ctx, v, id)
	if err != nil {
		return nil, err
	}
	best := own.entry
	for _, e := range found {
		if e.newer(best) {
			best = e
		}
	}
	for _, name := range silent {
		s.drop(name)
	}
	if best == nil {
		// As many nodes may be away as there are copies: then it is nowhere. A new
		// session was nowhere before, and a log-out needs no session.
		if n := s.lost(); r.op != opCreate && r.op != opDelete && s.opts.Copies != All && n > s.opts.Copies {
			return nil, fmt.Errorf("not here, and %d nodes have gone away without a word", n)
		}
		return nil, nil
	}
	if _, room := s.table.merge(id, best); !room {
		return best, nil // served, and not kept
	}
	s.table.check(id, now)
	s.repair(v, id, best, found)
	return best, nil
}

// repair gives the holders what they lack of a session. Nobody waits for it.
func (s *Store) repair(v *view, id session.ID, best *entry, found map[string]*entry) {
	r := request{op: opMerge, body: appendItem(nil, item{id, best})}
	for _, m := range s.holders(v, id) {
		if e := found[m.name]; m.name != s.node && (e == nil || best.newer(e)) {
			if err := s.nc.Publish(s.subject("to."+m.name), r.encode()); err != nil {
				s.opts.Logger.Warn("session copy not repaired", "error", err.Error())
			}
		}
	}
}

// holders are the nodes that shall hold a session, the one that decides first.
func (s *Store) holders(v *view, id session.ID) []member {
	list := v.order(nil, id.Hash)
	if n := s.opts.Copies + 1; s.opts.Copies != All && n < len(list) {
		list = list[:n]
	}
	return list
}

// askAll asks every node what it has. silent are those that do not answer.
func (s *Store) askAll(ctx context.Context, v *view, id session.ID) (found map[string]*entry, silent []string, err error) {
	missing := map[string]bool{}
	for _, m := range v.others(s.node) {
		missing[m.name] = true
	}
	if len(missing) == 0 {
		return nil, nil, nil
	}
	inbox := nats.NewInbox()
	// SubscribeSync makes room for 65,536 answers: half a MiB for each new session.
	msgs := make(chan *nats.Msg, len(missing)+64)
	sub, err := s.nc.ChanSubscribe(inbox, msgs)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	ask := request{op: opAsk, id: id}
	if err := s.nc.PublishRequest(s.subject("all"), inbox, ask.encode()); err != nil {
		return nil, nil, err
	}
	try, cancel := context.WithTimeout(ctx, s.ackPatience())
	defer cancel()
	found = map[string]*entry{}
	for len(missing) > 0 {
		var msg *nats.Msg
		select {
		case msg = <-msgs:
		case <-try.Done():
		}
		if msg == nil {
			break
		}
		name, rest, good := parseNamed(msg.Data)
		if !good {
			continue
		}
		delete(missing, name)
		if len(rest) > 0 {
			if e, _, good := parseEntry(rest); good {
				found[name] = e
			}
		}
	}
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	for name := range missing {
		silent = append(silent, name)
	}
	return found, silent, nil
}

// answerAsk is what this node says to opAsk: its name, and what it has.
func (s *Store) answerAsk(id session.ID) []byte {
	b := append([]byte{byte(len(s.node))}, s.node...)
	if own := s.table.get(id); own.entry != nil {
		b = own.append(b)
	}
	return b
}

func parseNamed(b []byte) (name string, rest []byte, good bool) {
	if len(b) < 1 || len(b) < 1+int(b[0]) {
		return "", nil, false
	}
	return string(b[1 : 1+b[0]]), b[1+b[0]:], true
}

// spread gives an entry to the nodes that shall have it, and returns when they
// do: a node that does not answer is dropped, and the next one takes its place.
// beaten is what one of them has that must not be overwritten.
func (s *Store) spread(ctx context.Context, id session.ID, e *entry) (beaten *entry, err error) {
	v := s.view.Load()
	list := slices.DeleteFunc(v.order(nil, id.Hash), func(m member) bool { return m.name == s.node })
	want := len(list)
	if s.opts.Copies != All && !e.dead { // a log-out goes to all
		want = min(want, s.opts.Copies)
	}
	r := request{op: opFollow, id: id, body: appendItem(nil, item{id, e})}
	data := r.encode()
	acks := 0
	for next := 0; acks < want && next < len(list); {
		some := list[next:min(len(list), next+want-acks)]
		next += len(some)
		answers := make([]answer, len(some))
		var wg sync.WaitGroup
		for i, m := range some {
			wg.Go(func() { answers[i] = s.ask(ctx, m, data) })
		}
		wg.Wait()
		for i, a := range answers {
			switch {
			case a.err != nil:
				if ctx.Err() != nil {
					return nil, ctx.Err()
				}
				s.drop(some[i].name)
			case a.status == ok && len(a.body) == 0:
				acks++
			case a.status == ok:
				if kept, good := parseItems(a.body); good && len(kept) == 1 && kept[0].newerOrOther(e) {
					beaten = kept[0].entry
				} else {
					acks++ // it had the same, or has been touched since
				}
			} // full: the next one
		}
	}
	if beaten != nil {
		s.table.merge(id, beaten)
		return s.table.get(id).entry, nil
	}
	if acks < s.opts.MinCopies && !e.dead {
		return nil, fmt.Errorf("%d other nodes have the write, and MinCopies is %d", acks, s.opts.MinCopies)
	}
	if acks < s.opts.Copies {
		s.short.Add(1)
	}
	return nil, nil
}

// newerOrOther: e is not to be replaced by next.
func (it item) newerOrOther(next *entry) bool {
	c := it.compare(next.version)
	return c > 0 || c == 0 && !bytes.Equal(it.record, next.record)
}

type answer struct {
	status status
	body   []byte
	err    error
}

func (s *Store) ask(ctx context.Context, m member, data []byte) answer {
	try, cancel := context.WithTimeout(ctx, s.ackPatience())
	defer cancel()
	return answerIn(s.nc.RequestWithContext(try, s.subject("to."+m.name), data))
}

func answerIn(msg *nats.Msg, err error) answer {
	switch {
	case err != nil:
		return answer{err: err}
	case len(msg.Data) == 0:
		return answer{err: errors.New("an empty answer")}
	}
	return answer{status: status(msg.Data[0]), body: msg.Data[1:]}
}
