// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package near_test

import (
	"fmt"
	"log"
	"testing"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
	"github.com/belay-ha/belay/session/near"
)

func held(n int) *session.Held {
	return &session.Held{Record: session.Record{Attrs: session.Attrs{{Name: "a", Value: make([]byte, n)}}}}
}

func TestGetAndSet(t *testing.T) {
	c, err := near.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	id := session.ID{Generation: 1}
	if _, ok := c.Get(id); ok {
		t.Error("found what was never put in")
	}
	a, b := held(1), held(2)
	c.Set(id, a)
	c.Set(id, b)
	if got, ok := c.Get(id); !ok || got != b {
		t.Errorf("got %v, %v", got, ok)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	c, err := near.New(&near.Options{MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20_000 {
		c.Set(session.ID{Generation: byte(i), Hash: [20]byte{byte(i >> 8)}}, held(1<<10))
	}
	if n := c.Len(); n > 1<<20/(1<<10)*3/2 {
		t.Errorf("%d records of 1 KiB in 1 MiB", n)
	}
	if _, err := near.New(&near.Options{MaxBytes: -1}); err == nil {
		t.Error("a cache without a bound was accepted")
	}
}

func ExampleNew() {
	store, err := memstore.New(nil) // in real life one that several servers share
	if err != nil {
		log.Fatal(err)
	}
	cache, err := near.New(&near.Options{MaxBytes: 16 << 20})
	if err != nil {
		log.Fatal(err)
	}
	_, err = session.New(store, &session.Options{Mode: session.Coherent, Cache: cache})
	fmt.Println(err)
	// Output: <nil>
}
