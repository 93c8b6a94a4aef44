// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package natsstore

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-ha/belay/session"
)

// For how long followers may answer, and how long a leader is waited for.
func TestFollowersMayAnswerForAWhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var none *followers
		none.hear()
		if none.mayAnswer(time.Hour) {
			t.Error("a bucket without followers")
		}
		f := &followers{}
		if f.mayAnswer(time.Hour) {
			t.Error("before the leader was ever heard")
		}
		f.hear()
		time.Sleep(9 * time.Second)
		if !f.mayAnswer(10*time.Second) || f.mayAnswer(9*time.Second) || f.mayAnswer(-1) {
			t.Error("9 s after the leader was heard")
		}
		if got := f.patience(); got != leaderPatience {
			t.Errorf("a leader that answers is waited for %v", got)
		}
		f.quiet.Store(time.Now().UnixNano())
		if got := f.patience(); got != quietPatience {
			t.Errorf("one that was just silent is waited for %v", got)
		}
		time.Sleep(quietFor)
		if got := f.patience(); got != leaderPatience {
			t.Errorf("one that was silent a while ago is waited for %v", got)
		}
		f.quiet.Store(time.Now().UnixNano())
		f.hear()
		if got := f.patience(); got != leaderPatience {
			t.Errorf("one that answers again is waited for %v", got)
		}
		if time.Sleep(8 * time.Second); !f.mayAnswer(10 * time.Second) {
			t.Error("8 s after it was heard again")
		}
	})
}

// An answer that comes late takes nothing back that was seen meanwhile.
func TestSightingsDoNotGoBack(t *testing.T) {
	t.Parallel()
	var s sightings
	id, other := session.ID{Hash: [20]byte{1}}, session.ID{Hash: [20]byte{2}}
	rev := func(n uint64) *session.Record { return &session.Record{Rev: session.Rev{N: n}} }
	now := time.Now()
	s.add(id, rev(40), 400)
	s.add(id, rev(39), 390)
	if seq, known := s.sequence(id, session.Rev{N: 40}, now); !known || seq != 400 {
		t.Errorf("revision 40 is at %d, %v", seq, known)
	}
	s.addGone(id, 410)
	s.add(id, rev(40), 400)
	if e := s.of(id); e == nil || !e.gone {
		t.Error("a late answer brought back what was deleted here")
	}
	s.add(id, rev(1), 420)
	if e := s.of(id); e == nil || e.gone || e.seq != 420 {
		t.Error("a session that was made anew is not seen")
	}
	s.add(other, rev(1), 1) // which has the same place
	if s.of(id) != nil || s.of(other) == nil {
		t.Error("the newest does not take the place")
	}
}
