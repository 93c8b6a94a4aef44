// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package peerstore

import (
	"context"
	"time"
)

const (
	haveAtOnce = 1000      // stubs in one message
	sendAtOnce = 128 << 10 // bytes of records in one message, or one record
)

// copyAnew gives every node what it is to hold in this view and lacks. What is
// not this node's to hold any more it forgets, when all holders have it.
func (s *Store) copyAnew(ctx context.Context, v *view) {
	if len(v.others(s.node)) == 0 {
		return
	}
	began := time.Now()
	for i := range s.table.shards {
		todo := map[string][]item{} // by node
		stray := map[item]int{}     // how many holders do not have it
		for _, it := range s.table.items(i) {
			if it.expired(began) {
				continue
			}
			holders := s.holders(v, it.id)
			if it.dead { // everybody is to know
				holders = v.all
			}
			mine := false
			for _, m := range holders {
				if m.name == s.node {
					mine = true
				} else {
					todo[m.name] = append(todo[m.name], it)
				}
			}
			if !mine {
				stray[it] = len(holders)
			}
		}
		for name, list := range todo {
			for len(list) > 0 {
				n := min(len(list), haveAtOnce)
				if err := s.send(ctx, name, list[:n]); err != nil {
					s.opts.Logger.WarnContext(ctx, "sessions not copied", "error", err.Error())
					break
				}
				for _, it := range list[:n] {
					if _, is := stray[it]; is {
						stray[it]--
					}
				}
				list = list[n:]
			}
			if ctx.Err() != nil {
				return
			}
		}
		for it, missing := range stray {
			if missing == 0 && v == s.view.Load() {
				s.table.forget(it.id, it.entry)
			}
		}
	}
}

// send gives a node those of some items that it lacks.
func (s *Store) send(ctx context.Context, name string, list []item) error {
	have := request{op: opHave}
	for _, it := range list {
		have.body = appendStub(have.body, it)
	}
	a := s.ask(ctx, newMember(name), have.encode())
	if a.err != nil {
		return a.err
	}
	put := request{op: opMerge}
	flush := func() error {
		if len(put.body) == 0 {
			return nil
		}
		a := s.ask(ctx, newMember(name), put.encode())
		if a.err == nil && a.status == full {
			a.err = ErrFull
		}
		put.body = nil
		return a.err
	}
	for i, it := range list {
		if i >= len(a.body) || a.body[i] == 0 {
			continue
		}
		if len(put.body) > 0 && len(put.body)+len(it.record) > sendAtOnce {
			if err := flush(); err != nil {
				return err
			}
		}
		put.body = appendItem(put.body, it)
	}
	return flush()
}

// lack answers opHave: a byte for each stub, 1 if this node wants the item.
func (s *Store) lack(body []byte) []byte {
	var b []byte
	for ; len(body) >= stubSize; body = body[stubSize:] {
		stub, _, good := parseEntry(body[idSize:stubSize])
		own := s.table.get(parseID(body)).entry
		wants := good && (own == nil || stub.compare(own.version) > 0 || stub.compare(own.version) == 0 && stub.expires > own.expires)
		b = append(b, 0)
		if wants {
			b[len(b)-1] = 1
		}
	}
	return b
}
