// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sessiontest

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
)

var keepPromises = []promise{
	{"H41_only_what_changed_is_written_and_looked_at_only_if_used", testH41},
	{"H41_a_filtered_attribute_is_neither_stored_nor_counted", testH41Filter},
	{"H41_a_filtered_attribute_of_before_goes_with_the_next_write", testH41Before},
	{"H43_after_the_last_of_parallel_requests_nothing_local_is_used", testH43},
}

// counting counts what is encoded and decoded.
type counting struct {
	session.JSON
	encoded, decoded atomic.Int64
}

func (c *counting) Marshal(v any) ([]byte, error) {
	c.encoded.Add(1)
	return c.JSON.Marshal(v)
}

func (c *counting) Unmarshal(b []byte, v any) error {
	c.decoded.Add(1)
	return c.JSON.Unmarshal(b, v)
}

func testH41(t *testing.T, e *env) {
	codec := &counting{}
	a, b := e.app(&session.Options{Codec: codec, DetectChanges: true}), e.browser()
	b.must(a, func(_ context.Context, s *session.Session) {
		color.Set(s, "red")
		size.Set(s, "XL")
		tags.Set(s, map[string]bool{"new": true})
	})
	writes := func() int64 { return e.store.creates.Load() + e.store.updates.Load() + e.store.touches.Load() }
	for _, tc := range []struct {
		what             string
		do               func(s *session.Session)
		encoded, decoded int64
		writes           int64
	}{
		{"nothing", func(*session.Session) {}, 0, 0, 0},
		{"one value read", func(s *session.Session) { color.Get(s) }, 1, 1, 0},
		{"set to what it is", func(s *session.Session) { color.Set(s, "red") }, 2, 0, 0},
		{"changed in place", func(s *session.Session) { m, _ := tags.Get(s); m["hot"] = true }, 1, 1, 1},
		{"changed", func(s *session.Session) { size.Set(s, "S") }, 2, 0, 1},
	} {
		before, enc, dec := writes(), codec.encoded.Load(), codec.decoded.Load()
		b.must(a, func(_ context.Context, s *session.Session) { tc.do(s) })
		if n := writes() - before; n != tc.writes {
			t.Errorf("%s: %d writes, want %d", tc.what, n, tc.writes)
		}
		if n := codec.encoded.Load() - enc; n != tc.encoded {
			t.Errorf("%s: %d values encoded, want %d", tc.what, n, tc.encoded)
		}
		if n := codec.decoded.Load() - dec; n != tc.decoded {
			t.Errorf("%s: %d values decoded, want %d", tc.what, n, tc.decoded)
		}
	}
}

// notSize keeps every attribute but size.
func notSize(attr string) bool { return attr != size.Name() }

func testH41Filter(t *testing.T, e *env) {
	a, b := e.app(&session.Options{Keep: notSize, DetectChanges: true}), e.browser()
	local := func(_ context.Context, s *session.Session) {
		size.Set(s, "XL")
		if v, ok := size.Get(s); !ok || v != "XL" {
			t.Error("the request does not see what it set")
		}
		if v := size.Update(s, func(v string) string { return v + "L" }); v != "XLL" {
			t.Errorf("an update in the request gives %q", v)
		}
	}
	w := b.must(a, local)
	if e.store.creates.Load() != 0 || len(w.Header()["Set-Cookie"]) != 0 {
		t.Error("a session with nothing but a filtered attribute was stored")
	}
	b.must(a, setColor("red"))
	updates := e.store.updates.Load()
	b.must(a, local)
	if n := e.store.updates.Load() - updates; n != 0 {
		t.Errorf("a filtered attribute made %d updates", n)
	}
	if got := readAs(b, a, size); got != "" {
		t.Errorf("a filtered attribute outlived its request: %q", got)
	}
	rec, err := e.store.Store.Load(t.Context(), e.store.last())
	if _, ok := rec.Attrs.Get(size.Name()); err != nil || ok {
		t.Errorf("the store has it: %v, %v", ok, err)
	}
	// It is no use of the session either; anything else is.
	e.later(20*time.Minute, func() {
		b.must(a, local)
		if n := e.store.touches.Load(); n != 0 {
			t.Errorf("a request that used a filtered attribute alone moved the idle limit %d times", n)
		}
		b.must(a, func(ctx context.Context, s *session.Session) { local(ctx, s); color.Get(s) })
		if n := e.store.touches.Load(); n != 1 {
			t.Errorf("a request that used another attribute, too, moved the idle limit %d times", n)
		}
	})
}

func testH41Before(t *testing.T, e *env) {
	plain, a, b := e.app(nil), e.app(&session.Options{Keep: notSize}), e.browser()
	b.must(plain, func(_ context.Context, s *session.Session) { color.Set(s, "red"); size.Set(s, "XL") })
	if got := readAs(b, a, size); got != "" {
		t.Errorf("what the store has of a filtered attribute is read: %q", got)
	}
	b.must(a, setColor("blue"))
	if got, c := readAs(b, plain, size), b.color(plain); got != "" || c != "blue" {
		t.Errorf("after the next write it is still there: %q, with %q", got, c)
	}
}

// Requests that run in parallel on one server share nothing that outlives them:
// what another server writes meanwhile is what the next request sees.
func testH43(t *testing.T, e *env) {
	a, other, b := e.app(nil), e.app(nil), e.browser()
	b.must(a, setColor("red"))
	const n = 5
	var loaded, done sync.WaitGroup
	loaded.Add(n)
	release := make(chan struct{})
	for range n {
		done.Go(func() {
			b.clone().must(a, func(_ context.Context, s *session.Session) {
				if v, _ := color.Get(s); v != "red" {
					t.Errorf("%q", v)
				}
				loaded.Done()
				<-release
				hits.Update(s, func(n int) int { return n + 1 })
			})
		})
	}
	loaded.Wait()
	b.clone().must(other, setColor("blue"))
	close(release)
	done.Wait()
	loads := e.store.loads.Load()
	if got := b.color(a); got != "blue" {
		t.Errorf("after the last of them the server shows %q", got)
	}
	if n := e.store.loads.Load() - loads; n != 1 {
		t.Errorf("the next request made %d loads, want 1 of its own", n)
	}
	if got := readAs(b, other, hits); got != n {
		t.Errorf("%d of %d changes", got, n)
	}
}
