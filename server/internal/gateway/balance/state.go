// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package balance

// State is what a server may be used for.
type State uint8

// The states, from most to least useful.
const (
	Up          State = iota // everybody
	Starting                 // everybody, with less weight
	NoLB                     // only users who are already there: it says so itself, or has no weight, or is slow
	Draining                 // only users who are already there, until the deadline
	Ejected                  // nobody for a while: it answers, but with errors
	Maintenance              // nobody: the operator said so
	Down                     // nobody: it does not answer
)

// States lists them all, for those who count servers by state.
var States = [...]State{Up, Starting, NoLB, Draining, Ejected, Maintenance, Down}

func (s State) String() string {
	switch s {
	case Up:
		return "up"
	case Starting:
		return "starting"
	case NoLB:
		return "nolb"
	case Draining:
		return "draining"
	case Ejected:
		return "ejected"
	case Maintenance:
		return "maintenance"
	default:
		return "down"
	}
}

// Set is a set of servers by index; the zero value is empty.
type Set struct {
	low  uint64
	high map[int]struct{} // only for pools of more than 64 servers
}

// Add puts server i into the set.
func (s *Set) Add(i int) {
	if i < 64 {
		s.low |= 1 << i
		return
	}
	if s.high == nil {
		s.high = make(map[int]struct{})
	}
	s.high[i] = struct{}{}
}

// Has reports whether server i is in the set. A nil set is empty.
func (s *Set) Has(i int) bool {
	if s == nil {
		return false
	}
	if i < 64 {
		return s.low&(1<<i) != 0
	}
	_, ok := s.high[i]
	return ok
}
