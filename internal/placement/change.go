// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"errors"
	"fmt"
	"slices"
)

// Append returns a list with one more generation, which knows these members and
// takes no sessions yet: give that list to every process first, then Open it.
func (l *List) Append(members ...Member) (next *List, epoch byte, err error) {
	last := l.Generations[len(l.Generations)-1].Epoch
	if last == maxGenerations-1 {
		return nil, 0, errors.New("placement: generation 255 was the last one there can be")
	}
	next = l.copy()
	next.Generations = append(next.Generations, Generation{
		Epoch: last + 1, State: Draining, Hash: HashV1, Members: members,
	})
	next, err = next.made()
	return next, last + 1, err
}

// Open returns a list in which sessions are born in a generation, with its
// part of them compared with the other open ones; 0 means 1.
func (l *List) Open(epoch byte, share int) (*List, error) {
	return l.with(epoch, func(g *Generation) error {
		if g.State == Closed {
			return errors.New("it is closed, and stays so")
		}
		g.State, g.Share = Open, share
		return nil
	})
}

// Drain returns a list in which no sessions are born in a generation any more.
func (l *List) Drain(epoch byte) (*List, error) {
	return l.with(epoch, func(g *Generation) error {
		if g.State == Closed {
			return errors.New("it is closed, and stays so")
		}
		g.State = Draining
		return nil
	})
}

// Close returns a list in which a draining generation is closed: what still lives
// there is not found any more.
func (l *List) Close(epoch byte) (*List, error) {
	return l.with(epoch, func(g *Generation) error {
		if g.State == Open {
			return errors.New("it is open: drain it first")
		}
		g.State = Closed
		return nil
	})
}

// Replace returns a list in which the node of a member is at another address, in
// every generation that has the member.
func (l *List) Replace(id, addr string) (*List, error) {
	next, found := l.copy(), false
	for i := range next.Generations {
		for j := range next.Generations[i].Members {
			if m := &next.Generations[i].Members[j]; m.ID == id {
				m.Addr, found = addr, true
			}
		}
	}
	if !found {
		return nil, fmt.Errorf("placement: no generation has a member %q", id)
	}
	return next.made()
}

func (l *List) with(epoch byte, change func(g *Generation) error) (*List, error) {
	next := l.copy()
	g := next.Find(epoch)
	if g == nil {
		return nil, fmt.Errorf("placement: there is no generation %d", epoch)
	}
	if err := change(g); err != nil {
		return nil, fmt.Errorf("placement: generation %d: %w", epoch, err)
	}
	return next.made()
}

// copy is the list, one version later, free to be changed.
func (l *List) copy() *List {
	next := &List{Version: l.Version + 1, Generations: slices.Clone(l.Generations)}
	for i := range next.Generations {
		next.Generations[i] = next.Generations[i].clone()
	}
	return next
}

// Follows reports why next may not come after l; nil if it may. Generations
// are only appended, what places sessions never changes, and closed is for good.
func (l *List) Follows(next *List) error {
	if next.Version <= l.Version {
		return fmt.Errorf("placement: version %d is not newer than %d", next.Version, l.Version)
	}
	var errs []error
	for i := range l.Generations {
		old := &l.Generations[i]
		g := next.Find(old.Epoch)
		bad := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("generation %d: %w", old.Epoch, fmt.Errorf(format, args...)))
		}
		switch {
		case g == nil:
			bad("it is missing: generations are only added")
		case old.State == Closed && g.State != Closed:
			bad("it was closed, and stays so")
		case g.Hash != old.Hash:
			bad("its hash changed: that would move sessions")
		case !slices.EqualFunc(old.Members, g.Members, samePlace):
			bad("its members or their weights changed: that would move sessions; append a generation instead")
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("placement: version %d cannot follow %d: %w", next.Version, l.Version, err)
	}
	return nil
}

func samePlace(a, b Member) bool {
	return a.ID == b.ID && max(1, a.Weight) == max(1, b.Weight)
}
