// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sealed_test

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/near"
)

// What is done to a store behind the seals, as its users see it, in memory and
// over the network. The other tests of T40 look at each byte.
func TestT40_at_rest_as_users_see_it(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, inner *counted) {
		user := session.NewKey[string]("user")
		var corrupt atomic.Int64
		with := func(keys ...[]byte) *app {
			return newApp(t, over(t, inner, keys...), user, func() { corrupt.Add(1) })
		}
		a := with(secret(1))
		raw := func(id session.ID) session.Record {
			t.Helper()
			rec, err := inner.Load(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			rec.CAS = 0
			return rec
		}
		plant := func(id session.ID, rec session.Record) {
			t.Helper()
			if err := inner.Delete(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			if err := inner.Store.Create(t.Context(), id, rec); err != nil {
				t.Fatal(err)
			}
		}
		cookie, _ := a.visit("", "Ann")
		ann := *inner.created.Load()
		other, _ := a.visit("", "Bob")
		bob := *inner.created.Load()
		good := raw(ann)
		if bytes.Contains(session.AppendRecord(nil, &good), []byte("Ann")) {
			t.Error("the store holds a value in the clear")
		}

		damaged := map[string]session.Record{"another session's record": raw(bob)}
		for _, at := range good.Attrs {
			for _, i := range []int{0, len(at.Value) / 2, len(at.Value) - 1} {
				rec := good
				rec.Attrs = good.Attrs.With(at.Name, flipped(at.Value, i, 1))
				damaged[fmt.Sprintf("byte %d of %q flipped", i, at.Name)] = rec
			}
		}
		promoted := good
		promoted.Owner = "admin"
		damaged["another owner"] = promoted
		for what, rec := range damaged {
			plant(ann, rec)
			before := corrupt.Load()
			if after, got := a.visit(cookie, ""); got != "" || after != "" || corrupt.Load() != before+1 {
				t.Errorf("%s: read %q, counted %d times, cookie %q", what, got, corrupt.Load()-before, after)
			}
		}
		plant(ann, good)
		if _, got := a.visit(cookie, ""); got != "Ann" {
			t.Errorf("put right again: %q", got)
		}

		// Keys change, and nobody notices.
		if _, got := with(secret(2), secret(1)).visit(cookie, ""); got != "Ann" {
			t.Errorf("under a new first key: %q", got)
		}
		with(secret(2), secret(1)).visit(cookie, "Anna")
		if _, got := with(secret(2)).visit(cookie, ""); got != "Anna" {
			t.Errorf("sealed anew, without the old key: %q", got)
		}
		if _, got := with(secret(2)).visit(other, ""); got != "" {
			t.Errorf("a key that was taken away opens %q", got)
		}

		// A record that is put back whole shows by its revision, to who knows a newer.
		cache, err := near.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		rolled := 0
		m, err := session.New(over(t, inner, secret(2)), &session.Options{
			Mode: session.Coherent, Cache: cache, MaxStale: 1,
			Hooks: session.Hooks{Rollback: func(context.Context, session.Info, session.Rev) { rolled++ }},
		})
		if err != nil {
			t.Fatal(err)
		}
		c := serve(t, m, user)
		cookie, _ = c.visit("", "Cem")
		id := *inner.created.Load()
		before := raw(id)
		cookie, _ = c.visit(cookie, "Cemal")
		plant(id, before)
		if _, got := c.visit(cookie, ""); got != "Cem" || rolled != 1 {
			t.Errorf("put back whole: %q, and Rollback was called %d times", got, rolled)
		}
	})
}
