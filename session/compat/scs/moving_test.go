// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package belayscs_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

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

// What the old store has and scs would not take is no session, or an error; it is
// never one that is written here.
func TestWhatDoesNotMove(t *testing.T) {
	old := &withContext{MemStore: oldmem.NewWithCleanupInterval(0)}
	a := newApp(t, memory(t), belayscs.Options{Old: old})
	ctx := context.WithValue(t.Context(), testsKey{}, true)
	put := func(token string, deadline time.Time) {
		t.Helper()
		b, err := (scs.GobCodec{}).Encode(deadline, map[string]any{"user": "jane"})
		if err == nil {
			err = old.Commit(token, b, time.Now().Add(time.Hour))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	alive, ended, broken := strings.Repeat("A", 43), strings.Repeat("B", 42)+"A", strings.Repeat("C", 42)+"A"
	put(alive, time.Now().Add(time.Hour))
	put(ended, time.Now().Add(-time.Second))
	if err := old.Commit(broken, []byte("not gob"), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, found, err := a.store.FindCtx(ctx, ended); found || err != nil {
		t.Errorf("past its deadline: found %v, %v", found, err)
	}
	if _, found, err := a.store.FindCtx(ctx, broken); found || err == nil || !strings.Contains(err.Error(), "Codec") {
		t.Errorf("not to be read: found %v, %v", found, err)
	}
	if n := a.under.creates.Load(); n != 0 {
		t.Errorf("%d sessions were created", n)
	}
	if _, found, err := a.store.FindCtx(ctx, alive); !found || err != nil {
		t.Errorf("a good one: found %v, %v", found, err)
	}
	if _, found, _ := old.Find(alive); found {
		t.Error("it is still in the old store")
	}
	if old.without != 0 {
		t.Errorf("the old store was called %d times without the caller's context", old.without)
	}
}

// withContext is an old store that takes a context, and counts calls with another
// than the test's.
type withContext struct {
	*oldmem.MemStore
	without int
}

type testsKey struct{}

func (o *withContext) told(ctx context.Context) {
	if ctx.Value(testsKey{}) == nil {
		o.without++
	}
}

func (o *withContext) FindCtx(ctx context.Context, token string) ([]byte, bool, error) {
	o.told(ctx)
	return o.Find(token)
}

func (o *withContext) CommitCtx(ctx context.Context, token string, b []byte, expiry time.Time) error {
	o.told(ctx)
	return o.Commit(token, b, expiry)
}

func (o *withContext) DeleteCtx(ctx context.Context, token string) error {
	o.told(ctx)
	return o.Delete(token)
}

func TestOldNeedsTombstones(t *testing.T) {
	if _, err := belayscs.New(memory(t), &belayscs.Options{Old: scs.New().Store, Tombstone: -1}); err == nil {
		t.Error("accepted")
	}
}
