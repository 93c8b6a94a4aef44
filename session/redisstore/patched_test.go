// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore_test

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
)

// What is read after any patches is what a map would have, sorted.
func TestPatchesAddUp(t *testing.T) {
	s := open(t, servertest.StartRedis(t).URL(), nil)
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		id, rec, want := newID(byte(seed)), record(time.Hour), map[string]string{}
		for i := range random.IntN(20) {
			want[strconv.Itoa(i)] = "from the start"
		}
		for _, name := range slices.Sorted(maps.Keys(want)) {
			rec.Attrs = append(rec.Attrs, session.Attr{Name: name, Value: []byte(want[name])})
		}
		if err := s.Create(t.Context(), id, rec); err != nil {
			t.Fatal(err)
		}
		for step := range 10 {
			p := session.Patch{IfRev: rec.Rev, Rev: rec.Rev.Next(), Seen: rec.Seen, Expires: rec.Expires}
			for _, i := range random.Perm(30)[:random.IntN(8)] {
				name, value := strconv.Itoa(i), "from step "+strconv.Itoa(step)
				switch random.IntN(4) {
				case 0:
					delete(want, name)
					p.Delete = append(p.Delete, name)
					continue
				case 1:
					value = ""
				}
				want[name] = value
				p.Set = append(p.Set, session.Attr{Name: name, Value: []byte(value)})
			}
			if err := s.Patch(t.Context(), id, p); errors.Is(err, errors.ErrUnsupported) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			rec.Rev = p.Rev
			got, err := s.Load(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			have := map[string]string{}
			for _, a := range got.Attrs {
				have[a.Name] = string(a.Value)
			}
			sorted := slices.IsSortedFunc(got.Attrs, func(a, b session.Attr) int {
				if a.Name < b.Name {
					return -1
				}
				return 1 // the same name twice is not sorted
			})
			if !maps.Equal(have, want) || !sorted {
				t.Fatalf("seed %d, step %d: got %v (sorted %v), want %v", seed, step, have, sorted, want)
			}
		}
	}
}
