// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package near_test

import (
	"fmt"
	"log"
	"strings"
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

// Whatever a record's bytes are in, they count.
func TestMemoryIsBounded(t *testing.T) {
	const kib = 1 << 10
	for name, h := range map[string]*session.Held{
		"values":   held(kib),
		"names":    {Record: session.Record{Attrs: session.Attrs{{Name: strings.Repeat("n", kib)}}}},
		"owner":    {Record: session.Record{Owner: strings.Repeat("o", kib)}},
		"once":     {Record: session.Record{Once: make([]session.OnceKey, kib/len(session.OnceKey{}))}},
		"no_bytes": held(0),
	} {
		c, err := near.New(&near.Options{MaxBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		most := 1 << 20 / kib
		if name == "no_bytes" { // a struct and its place are half as much
			most *= 2
		}
		for i := range 20_000 {
			c.Set(session.ID{Generation: byte(i), Hash: [20]byte{byte(i >> 8)}}, h)
		}
		c.Settle()
		if n := c.Len(); n > most {
			t.Errorf("%s: %d records in 1 MiB", name, n)
		}
	}
}

func TestBounds(t *testing.T) {
	if _, err := near.New(&near.Options{MaxBytes: -1}); err == nil {
		t.Error("a cache without a bound was accepted")
	}
	if _, err := near.New(&near.Options{MaxBytes: 1}); err != nil {
		t.Errorf("the smallest bound: %v", err)
	}
	c, err := near.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	mib := held(1 << 20)
	for i := range 200 {
		c.Set(session.ID{Generation: byte(i)}, mib)
	}
	c.Settle()
	if n := c.Len(); n != 63 { // each has a struct and a name, too
		t.Errorf("%d records of 1 MiB by default, want as many as 64 MiB hold", n)
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
