// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// List is the generations there are. A List that came from New, Parse or one of
// the methods is valid and never changes; it is safe for concurrent use.
type List struct {
	// Version grows with each change.
	Version     uint64       `json:"version"`
	Generations []Generation `json:"generations"`
}

const (
	maxGenerations = 256 // one byte of the token
	maxMembers     = 256
	maxWeight      = 1000
	maxText        = 1024
)

// New is a list of one open generation, 0.
func New(members ...Member) (*List, error) {
	return (&List{Version: 1, Generations: []Generation{
		{State: Open, Hash: HashV1, Members: members},
	}}).made()
}

// Parse reads what Encode wrote, or a person. An unknown field is an error.
func Parse(text []byte) (*List, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	l := &List{}
	if err := d.Decode(l); err != nil {
		return nil, fmt.Errorf("placement: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("placement: there is something after the list")
	}
	return l.made()
}

// Encode is the list as JSON.
func (l *List) Encode() []byte {
	b, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		panic("placement: encode: " + err.Error()) // nothing in it can fail
	}
	return append(b, '\n')
}

// made checks a new list and prepares it.
func (l *List) made() (*List, error) {
	if err := l.check(); err != nil {
		return nil, fmt.Errorf("placement: %w", err)
	}
	l.Generations = slices.Clone(l.Generations)
	for i := range l.Generations {
		l.Generations[i] = l.Generations[i].clone()
		l.Generations[i].compile()
	}
	return l, nil
}

func (l *List) check() error {
	if l.Version == 0 {
		return errors.New("the version must be at least 1")
	}
	if len(l.Generations) == 0 || len(l.Generations) > maxGenerations {
		return fmt.Errorf("%d generations: 1 to %d are possible", len(l.Generations), maxGenerations)
	}
	var errs []error
	for i, g := range l.Generations {
		bad := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("generation %d: %w", g.Epoch, fmt.Errorf(format, args...)))
		}
		if i > 0 && g.Epoch != l.Generations[i-1].Epoch+1 || i > 0 && g.Epoch == 0 {
			bad("it follows generation %d: epochs go up by one", l.Generations[i-1].Epoch)
		}
		switch g.State {
		case Open, Draining, Closed:
		default:
			bad("the state %q is none of open, draining, closed", g.State)
		}
		if g.Hash != HashV1 {
			bad("the hash %q is not known: this program knows %q", g.Hash, HashV1)
		}
		if g.Share < 0 || g.Share > maxWeight {
			bad("the share %d is not 0 to %d", g.Share, maxWeight)
		}
		if len(g.Members) == 0 || len(g.Members) > maxMembers {
			bad("%d members: 1 to %d are possible", len(g.Members), maxMembers)
		}
		ids, addrs := map[string]bool{}, map[string]bool{}
		for _, m := range g.Members {
			switch {
			case m.ID == "" || len(m.ID) > maxText || ids[m.ID]:
				bad("the member id %q is empty, too long or there twice", m.ID)
			case m.Addr == "" || len(m.Addr) > maxText || addrs[m.Addr]:
				bad("the address of member %q is empty, too long or another member's", m.ID)
			case m.Weight < 0 || m.Weight > maxWeight:
				bad("the weight %d of member %q is not 0 to %d", m.Weight, m.ID, maxWeight)
			}
			ids[m.ID], addrs[m.Addr] = true, true
		}
	}
	return errors.Join(errs...)
}

// Find returns a generation; nil if the list has none of that epoch.
func (l *List) Find(epoch byte) *Generation {
	i := int(epoch) - int(l.Generations[0].Epoch)
	if i < 0 || i >= len(l.Generations) {
		return nil
	}
	return &l.Generations[i]
}

// Pick returns the generation in which a session is born, by a random number:
// among the open ones, each as often as its share says. False: none is open.
func (l *List) Pick(random uint64) (epoch byte, ok bool) {
	var sum uint64
	for i := range l.Generations {
		sum += l.Generations[i].share()
	}
	if sum == 0 {
		return 0, false
	}
	random %= sum
	for i := range l.Generations {
		s := l.Generations[i].share()
		if random < s {
			return l.Generations[i].Epoch, true
		}
		random -= s
	}
	panic("placement: the shares do not add up")
}

func (g *Generation) share() uint64 {
	if g.State != Open {
		return 0
	}
	return uint64(max(1, g.Share))
}
