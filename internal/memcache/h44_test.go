// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcache_test

import (
	"errors"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/memcache"
	"github.com/belay-ha/belay/internal/servertest"
)

func TestH44_the_client_adds_sets_gets_deletes_and_expires(t *testing.T) {
	m := servertest.StartMemcached(t)
	c, err := memcache.New(m.Addr(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	ctx := t.Context()
	value := func(key string) string {
		t.Helper()
		item, err := c.Get(ctx, key)
		if errors.Is(err, memcache.ErrMiss) {
			return "none"
		}
		if err != nil {
			t.Fatal(err)
		}
		return string(item.Value)
	}
	if _, err := c.Add(ctx, "k", []byte("added"), time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Add(ctx, "k", []byte("again"), time.Hour); !errors.Is(err, memcache.ErrExists) || value("k") != "added" {
		t.Errorf("a second add: %v, %s", err, value("k"))
	}
	if _, err := c.Set(ctx, "k", []byte("set"), time.Hour); err != nil || value("k") != "set" {
		t.Errorf("set: %v, %s", err, value("k"))
	}
	if err := c.Delete(ctx, "k"); err != nil || value("k") != "none" {
		t.Errorf("delete: %v, %s", err, value("k"))
	}
	const month = 30 * 24 * time.Hour
	for _, ttl := range []time.Duration{time.Minute, month - time.Minute, month + time.Minute, 3 * month} {
		if _, err := c.Set(ctx, "k", []byte("v"), ttl); err != nil {
			t.Fatal(err)
		}
		item, err := c.Get(ctx, "k")
		if off := item.TTL - ttl; err != nil || off < -30*time.Second || off > 30*time.Second {
			t.Errorf("set for %v: %v left, %v", ttl, item.TTL, err)
		}
	}
	if _, err := c.Set(ctx, "k", []byte("v"), time.Millisecond); err != nil {
		t.Fatal(err)
	}
	gone := false
	for end := time.Now().Add(30 * time.Second); !gone && time.Now().Before(end); {
		gone = value("k") == "none"
	}
	if !gone {
		t.Error("what was set for a millisecond is there after half a minute")
	}
}
