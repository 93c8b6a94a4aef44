// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package belayscs_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/alexedwards/scs/v2"
	oldmem "github.com/alexedwards/scs/v2/memstore"

	belayscs "github.com/belay-ha/belay/session/compat/scs"
)

// lying fails, or calls between after it has found something.
type lying struct {
	*oldmem.MemStore
	err     error
	between func()
}

func (l *lying) Find(token string) ([]byte, bool, error) {
	if l.err != nil {
		return nil, false, l.err
	}
	b, found, err := l.MemStore.Find(token)
	if l.between != nil {
		l.between()
	}
	return b, found, err
}

func (l *lying) Delete(token string) error {
	if l.err != nil {
		return l.err
	}
	return l.MemStore.Delete(token)
}

// An application that runs on scs's own store, then on ours with that as Old.
func TestSessionsMoveFromTheOldStore(t *testing.T) {
	old := &lying{MemStore: oldmem.NewWithCleanupInterval(0)}
	a := newApp(t, memory(t), belayscs.Options{Old: old})
	before := a.LoadAndSave(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.Put(r.Context(), "user", "jane")
	}))
	login := func() *client {
		a.SessionManager.Store = old.MemStore
		c := &client{t: t, h: before}
		c.do("/")
		a.SessionManager.Store = a.store
		c.h = a.h
		return c
	}

	c := login()
	token := c.token
	if got := c.do("/get?k=user"); got != "jane" {
		t.Fatalf("after the move: %q", got)
	}
	if all, _ := old.All(); len(all) != 0 {
		t.Error("it is still in the old store")
	}
	c.do("/put?k=a&v=1")
	if got := c.do("/get?k=user") + c.do("/get?k=a"); got != "jane1" || c.token != token {
		t.Errorf("a change to what was moved: %q", got)
	}
	c.do("/logout")
	if got := (&client{t: t, h: a.h, token: token}).do("/get?k=user"); got != "" {
		t.Errorf("after log-out: %q", got)
	}

	// The log-out comes while another request is moving it.
	c = login()
	token = c.token
	old.between = func() {
		old.between = nil
		if err := a.store.Delete(token); err != nil {
			t.Error(err)
		}
	}
	if got := c.do("/get?k=user"); got != "" {
		t.Errorf("logged out while it moved, and still %q", got)
	}
	if got := (&client{t: t, h: a.h, token: token}).do("/get?k=user"); got != "" {
		t.Errorf("and afterwards %q", got)
	}

	c = login()
	old.err = errors.New("cable cut")
	if got := c.send("/get?k=user"); got.code != http.StatusInternalServerError {
		t.Errorf("the old store is away: %d %q", got.code, got.body)
	}
	if err := a.store.Delete(c.token); err == nil {
		t.Error("a log-out that the old store did not hear of")
	}
	old.err = nil
	if got := c.do("/get?k=user"); got != "jane" {
		t.Errorf("afterwards: %q", got)
	}
}

func TestOldNeedsTombstones(t *testing.T) {
	if _, err := belayscs.New(memory(t), &belayscs.Options{Old: scs.New().Store, Tombstone: -1}); err == nil {
		t.Error("accepted")
	}
}
