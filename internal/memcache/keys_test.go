// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcache_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/memcache"
	"github.com/belay-ha/belay/internal/servertest"
)

func TestEntriesListsWhatIsThere(t *testing.T) {
	m := servertest.StartMemcached(t)
	c, err := memcache.New(m.Addr(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	want := map[string]bool{}
	for i := range 300 {
		key := fmt.Sprintf("belay:s:%d%%&=x", i)
		want[key] = true
		if _, err := c.Set(t.Context(), key, make([]byte, 100), time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	err = c.Entries(t.Context(), func(e memcache.Entry) error {
		if left := time.Until(e.Expires); !want[e.Key] || left < 50*time.Minute || left > 70*time.Minute || e.Size < 100 {
			t.Errorf("listed %+v", e)
		}
		delete(want, e.Key)
		return nil
	})
	if err != nil || len(want) != 0 {
		t.Errorf("%v; %d entries were not listed", err, len(want))
	}
	enough := errors.New("enough")
	n := 0
	if err := c.Entries(t.Context(), func(memcache.Entry) error { n++; return enough }); !errors.Is(err, enough) || n != 1 {
		t.Errorf("stopped by the caller: %v after %d entries", err, n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Entries(ctx, func(memcache.Entry) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestLookLeavesTheValuesThere(t *testing.T) {
	m := servertest.StartMemcached(t)
	c, err := memcache.New(m.Addr(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	var keys []string
	cas := map[string]uint64{}
	for i := range 150 {
		key := fmt.Sprint("k", i)
		keys = append(keys, key)
		if i%3 != 0 {
			if cas[key], err = c.Set(t.Context(), key, []byte("value"), time.Hour); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, err := c.Look(t.Context(), keys...)
	if err != nil || len(got) != len(cas) {
		t.Fatalf("%d of %d, %v", len(got), len(cas), err)
	}
	for key, item := range got {
		if item.Value != nil || item.CAS != cas[key] || item.TTL < 50*time.Minute {
			t.Errorf("%s: %+v, want CAS %d and no value", key, item, cas[key])
		}
	}
}
