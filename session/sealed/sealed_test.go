// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sealed_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
	"github.com/belay-ha/belay/session/sealed"
)

const sealName = "\x00sealed"

var (
	alice = session.ID{Generation: 1, Hash: [20]byte{1}}
	bob   = session.ID{Generation: 1, Hash: [20]byte{2}}
)

func record() session.Record {
	now := time.Now().Truncate(time.Millisecond)
	return session.Record{
		Rev: session.Rev{Term: 1, N: 1}, Owner: "42",
		Created: now.Add(-time.Hour), Seen: now, Expires: now.Add(time.Hour), Ends: now.Add(12 * time.Hour), AuthTime: now.Add(-time.Minute),
		Prev: session.ID{Generation: 1, Hash: [20]byte{7}}, Next: session.ID{Generation: 1, Hash: [20]byte{8}},
		Once: []session.OnceKey{{1}, {2}},
		Attrs: session.Attrs{
			{Name: "card", Value: []byte("4111-1111-1111-1111")},
			{Name: "empty", Value: []byte{}},
			{Name: "role", Value: []byte(`"customer"`)},
		},
	}
}

// bench is a sealed store and what lies under it.
type bench struct {
	t      *testing.T
	under  *memstore.Store
	sealed session.Store
}

func newBench(t *testing.T, keys ...[]byte) *bench {
	t.Helper()
	if keys == nil {
		keys = [][]byte{secret(1)}
	}
	under := memory(t)
	return &bench{t, under, over(t, under, keys...)}
}

func (b *bench) create(id session.ID, rec session.Record) {
	b.t.Helper()
	if err := b.sealed.Create(b.t.Context(), id, rec); err != nil {
		b.t.Fatal(err)
	}
}

// raw is what somebody sees who reads the inner store.
func (b *bench) raw(id session.ID) session.Record {
	b.t.Helper()
	rec, err := b.under.Load(b.t.Context(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	return rec
}

// plant puts a record into the inner store, as somebody can who writes to it.
func (b *bench) plant(id session.ID, rec session.Record) {
	b.t.Helper()
	if err := errors.Join(b.under.Delete(b.t.Context(), id), b.under.Create(b.t.Context(), id, rec)); err != nil {
		b.t.Fatal(err)
	}
}

// loads wants the given error from the sealed store; nil: none.
func (b *bench) loads(what string, id session.ID, want error) session.Record {
	b.t.Helper()
	rec, err := b.sealed.Load(b.t.Context(), id)
	if !errors.Is(err, want) {
		b.t.Errorf("%s: error %v, want %v", what, err, want)
	}
	return rec
}

func flipped(b []byte, i int, bit byte) []byte {
	b = slices.Clone(b)
	b[i] ^= bit
	return b
}

func TestT40_a_dump_shows_no_value(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	rec := record()
	b.create(alice, rec)
	raw := b.raw(alice)
	dump := session.AppendRecord(nil, &raw)
	for _, a := range rec.Attrs {
		if len(a.Value) > 0 && bytes.Contains(dump, a.Value) {
			t.Errorf("the store holds %q in the clear", a.Value)
		}
	}
	got := b.loads("untouched", alice, nil)
	for i, a := range rec.Attrs {
		if got.Attrs[i].Name != a.Name || !bytes.Equal(got.Attrs[i].Value, a.Value) {
			t.Errorf("%q came back as %q", a, got.Attrs[i])
		}
	}
	second := record()
	second.Rev = rec.Rev.Next()
	if err := b.sealed.Update(t.Context(), alice, second, rec.Rev); err != nil {
		t.Fatal(err)
	}
	was, _ := raw.Attrs.Get("card")
	if is, _ := b.raw(alice).Attrs.Get("card"); bytes.Equal(was, is) {
		t.Error("the same value, written twice, is sealed to the same bytes: who reads the store sees that it did not change")
	}
}

func TestT40_bit_flips_are_detected(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.create(alice, record())
	raw := b.raw(alice)
	for _, a := range raw.Attrs {
		for i := range a.Value {
			for bit := byte(1); bit != 0; bit <<= 1 {
				changed := raw
				changed.Attrs = raw.Attrs.With(a.Name, flipped(a.Value, i, bit))
				b.plant(alice, changed)
				b.loads("a flipped bit in "+a.Name, alice, session.ErrCorrupt)
			}
		}
		for _, n := range []int{0, 1, 3, 4, 5, 28, 43, len(a.Value) - 1} {
			if n < len(a.Value) {
				changed := raw
				changed.Attrs = raw.Attrs.With(a.Name, a.Value[:n])
				b.plant(alice, changed)
				b.loads("a truncated "+a.Name, alice, session.ErrCorrupt)
			}
		}
	}
	b.plant(alice, raw)
	b.loads("put back", alice, nil)
}

// A field that is added to records and not to the seal would fail here.
func TestT40_every_field_but_the_expiry_is_under_the_seal(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.create(alice, record())
	raw := b.raw(alice)
	for i := range reflect.TypeFor[session.Record]().NumField() {
		field := reflect.TypeFor[session.Record]().Field(i).Name
		changed := raw
		f := reflect.ValueOf(&changed).Elem().Field(i)
		switch v := f.Interface().(type) {
		case session.Rev:
			f.Set(reflect.ValueOf(v.Next()))
		case string:
			f.SetString(v + "1")
		case time.Time:
			f.Set(reflect.ValueOf(v.Add(time.Millisecond)))
		case session.ID:
			f.Set(reflect.ValueOf(bob))
		case []session.OnceKey:
			f.Set(reflect.ValueOf(v[:1]))
		case session.Attrs:
			f.Set(reflect.ValueOf(v.Without("role")))
		case uint64:
			f.SetUint(v + 1)
		case bool:
			f.SetBool(!v)
		default:
			t.Fatalf("the test does not know how to change %s", field)
		}
		want := session.ErrCorrupt
		if field == "Expires" || field == "CAS" { // what touches move; what is the inner store's own
			want = nil
		}
		b.plant(alice, changed)
		b.loads("another "+field, alice, want)
	}
	for what, change := range map[string]func(*session.Record){
		"only the term":       func(r *session.Record) { r.Rev.Term++ },
		"a link taken away":   func(r *session.Record) { r.Next = session.ID{} },
		"links exchanged":     func(r *session.Record) { r.Prev, r.Next = r.Next, r.Prev },
		"once keys exchanged": func(r *session.Record) { r.Once = []session.OnceKey{r.Once[1], r.Once[0]} },
		"a plain attribute":   func(r *session.Record) { r.Attrs = r.Attrs.With("admin", []byte("true")) },
		"no seal":             func(r *session.Record) { r.Attrs = r.Attrs.Without(sealName) },
		"nothing at all":      func(r *session.Record) { r.Attrs = nil },
	} {
		changed := raw
		change(&changed)
		b.plant(alice, changed)
		b.loads(what, alice, session.ErrCorrupt)
	}
}

func TestT40_what_is_swapped_is_detected(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	rec := record()
	rec.Attrs = rec.Attrs.With("name", []byte(`"customer"`)) // as long as role
	b.create(alice, rec)
	b.create(bob, rec)
	a, o := b.raw(alice), b.raw(bob)

	b.plant(bob, a)
	b.loads("the record of another session", bob, session.ErrCorrupt)

	role, _ := a.Attrs.Get("role")
	name, _ := a.Attrs.Get("name")
	swapped := a
	swapped.Attrs = a.Attrs.With("role", name).With("name", role)
	b.plant(alice, swapped)
	b.loads("values of two attributes exchanged", alice, session.ErrCorrupt)

	foreign := o
	foreign.Attrs = o.Attrs.With("role", role)
	b.plant(bob, foreign)
	b.loads("a value of another session", bob, session.ErrCorrupt)

	b.plant(alice, a)
	b.loads("put back", alice, nil)

	// Also a record that has no value, which would not open elsewhere either.
	rec.Attrs = nil
	for _, id := range []session.ID{{Generation: 1, Hash: [20]byte{3}}, {Generation: 2, Hash: [20]byte{1}}} {
		b.create(id, rec)
		b.plant(alice, b.raw(id))
		b.loads("the empty record of another session", alice, session.ErrCorrupt)
		b.loads("where it belongs", id, nil)
	}
}

func TestT40_a_mix_of_two_revisions_is_detected(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	first := record()
	b.create(alice, first)
	old := b.raw(alice)
	second := first
	second.Rev = first.Rev.Next()
	second.Attrs = first.Attrs.With("role", []byte(`"banned"`)).Without("empty")
	if err := b.sealed.Update(t.Context(), alice, second, first.Rev); err != nil {
		t.Fatal(err)
	}
	now := b.raw(alice)
	back := func(name string) session.Attrs {
		v, ok := old.Attrs.Get(name)
		if !ok {
			t.Fatalf("no %q", name)
		}
		return now.Attrs.With(name, v)
	}
	for what, attrs := range map[string]session.Attrs{
		"an older value":                   back("role"),
		"a value that had been removed":    back("empty"),
		"an older seal":                    back(sealName),
		"a value taken away":               now.Attrs.Without("card"),
		"all older values, the new fields": old.Attrs,
	} {
		mixed := now
		mixed.Attrs = attrs
		b.plant(alice, mixed)
		b.loads(what, alice, session.ErrCorrupt)
	}
	claims := old
	claims.Rev = now.Rev
	b.plant(alice, claims)
	b.loads("the older record under the new revision", alice, session.ErrCorrupt)
}

// What this package cannot detect, and what can: the older record comes with its
// older revision, which whoever remembers a newer one sees.
func TestT40_a_record_put_back_whole_shows_by_its_revision(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	first := record()
	b.create(alice, first)
	old := b.raw(alice)
	second := first
	second.Rev = first.Rev.Next()
	if err := b.sealed.Update(t.Context(), alice, second, first.Rev); err != nil {
		t.Fatal(err)
	}
	b.plant(alice, old)
	if got := b.loads("a record put back", alice, nil); got.Rev.Compare(second.Rev) >= 0 {
		t.Errorf("revision %v after it was set back from %v", got.Rev, second.Rev)
	}
}

func TestT40_the_expiry_cannot_be_moved_past_the_end(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		rec := record()
		b.create(alice, rec)
		raw := b.raw(alice)
		raw.Expires = rec.Ends.Add(24 * time.Hour)
		b.plant(alice, raw)
		time.Sleep(time.Until(rec.Ends) - time.Second)
		b.loads("before the end", alice, nil)
		time.Sleep(time.Second)
		b.loads("at the end", alice, session.ErrNotFound)
	})
}

func TestT40_keys_are_rotated_without_logout(t *testing.T) {
	t.Parallel()
	under := memory(t)
	user := session.NewKey[string]("user")
	corrupt := 0
	app := func(keys ...[]byte) *app {
		return newApp(t, over(t, under, keys...), user, func() { corrupt++ })
	}
	a, b, c := secret(1), secret(2), secret(3)

	writer, _ := app(a).visit("", "ann")
	idler, _ := app(a).visit("", "bea")

	last := "ann"
	for step, keys := range [][][]byte{{a, b}, {b, a}, {b, a, c}} {
		for cookie, want := range map[string]string{writer: last, idler: "bea"} {
			if _, got := app(keys...).visit(cookie, ""); got != want {
				t.Fatalf("step %d: %q is logged out", step, want)
			}
		}
		last += "a"
		app(keys...).visit(writer, last) // sealed by the first key
	}
	if corrupt != 0 {
		t.Errorf("%d damaged records", corrupt)
	}

	if _, got := app(b).visit(writer, ""); got != last {
		t.Errorf("what the new key has sealed is gone with the old one: %q", got)
	}
	cleared, got := app(b).visit(idler, "")
	if got != "" || cleared != "" || corrupt != 1 {
		t.Errorf("sealed by a removed key: read %q, cookie %q, %d counted", got, cleared, corrupt)
	}
}

func TestT40_a_newer_seal_is_not_damage(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.create(alice, record())
	raw := b.raw(alice)
	seal, _ := raw.Attrs.Get(sealName)
	newer := append([]byte{2}, seal[1:len(seal)-4]...)
	newer = append(newer, "and what version 2 has besides"...)
	newer = binary.LittleEndian.AppendUint32(newer, crc32.Checksum(newer, crc32.MakeTable(crc32.Castagnoli)))
	raw.Attrs = raw.Attrs.With(sealName, newer)
	b.plant(alice, raw)
	b.loads("a seal of version 2", alice, session.ErrNewer)
}

// The checksum is no secret: whoever writes to the store can make it right.
func TestT40_a_seal_of_another_length_is_damage(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.create(alice, record())
	raw := b.raw(alice)
	seal, _ := raw.Attrs.Get(sealName)
	summed := func(b []byte) []byte {
		return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	}
	plant := func(seal []byte) {
		changed := raw
		changed.Attrs = raw.Attrs.With(sealName, seal)
		b.plant(alice, changed)
	}
	whole := len(seal) - 4
	long := append(slices.Clone(seal[:whole]), 0, 0)
	for n := range len(long) + 1 {
		if n != whole {
			plant(summed(slices.Clone(long[:n])))
			b.loads("a seal of another length", alice, session.ErrCorrupt)
		}
	}
	plant(summed([]byte{2}))
	b.loads("the shortest seal of version 2", alice, session.ErrNewer)
	plant(summed(long[:whole:whole]))
	b.loads("the seal itself", alice, nil)
}

func TestAcceptPlain(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	plain := record()
	b.plant(alice, plain)
	b.loads("a record without a seal", alice, session.ErrCorrupt)

	s, err := sealed.New(b.under, [][]byte{secret(1)}, &sealed.Options{AcceptPlain: true})
	if err != nil {
		t.Fatal(err)
	}
	rec, err := s.Load(t.Context(), alice)
	if err != nil || len(rec.Attrs) != len(plain.Attrs) {
		t.Fatalf("%v, %v", rec.Attrs, err)
	}
	rec.Rev = rec.Rev.Next()
	if err := s.Update(t.Context(), alice, rec, plain.Rev); err != nil {
		t.Fatal(err)
	}
	b.loads("after its next write", alice, nil)
}

func TestTheSealsNameIsTaken(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	rec := record()
	bad := rec
	bad.Rev = rec.Rev.Next()
	bad.Attrs = rec.Attrs.With(sealName, []byte("mine"))
	if err := b.sealed.Create(t.Context(), bob, bad); err == nil {
		t.Error("created")
	}
	b.create(alice, rec)
	if err := b.sealed.Update(t.Context(), alice, bad, rec.Rev); err == nil {
		t.Error("updated")
	}
	b.loads("after the refused update", alice, nil)
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	mem := memory(t)
	for _, tt := range []struct {
		name  string
		store session.Store
		keys  [][]byte
		want  []string
	}{
		{"no_store", nil, [][]byte{secret(1)}, []string{"store"}},
		{"no_key", mem, nil, []string{"no key"}},
		{"short_key", mem, [][]byte{secret(1), secret(2)[:16]}, []string{"key 2 has 16 bytes"}},
		{"long_key", mem, [][]byte{append(secret(1), 0)}, []string{"key 1 has 33 bytes"}},
		{"zero_key", mem, [][]byte{make([]byte, 32)}, []string{"key 1 is all zeros"}},
		{"same_key_twice", mem, [][]byte{secret(1), secret(2), secret(1)}, []string{"key 3 is the same as key 1"}},
		{"everything_at_once", nil, [][]byte{nil, make([]byte, 32)}, []string{"store", "key 1", "key 2"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := sealed.New(tt.store, tt.keys, nil)
			if err == nil {
				t.Fatal("no error")
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
		})
	}
}

type probe struct {
	session.Store
	pings, runs int
}

func (p *probe) Ping(context.Context) error { p.pings++; return errors.New("away") }
func (p *probe) Run(context.Context) error  { p.runs++; return nil }
func (p *probe) Place() byte                { return 7 }

func TestCapabilities(t *testing.T) {
	t.Parallel()
	mem := memory(t)
	if _, ok := session.Capability[session.Indexer](over(t, mem, secret(1))); !ok {
		t.Error("the index of the inner store cannot be reached")
	}
	without := over(t, bare{mem}, secret(1))
	if _, ok := session.Capability[session.Indexer](without); ok {
		t.Error("an index where there is none")
	}
	for _, s := range []session.Store{without, over(t, mem, secret(1))} {
		if _, ok := s.(interface{ Unwrap() session.Store }); ok {
			t.Errorf("%T lets callers go round the seals", s)
		}
	}
	p, _ := session.Capability[session.Pinger](without)
	if err := p.Ping(t.Context()); err != nil {
		t.Errorf("ping of a store without Ping: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Ping(ended); err == nil {
		t.Error("ping of a store that cannot be asked")
	}
	r, _ := session.Capability[session.Runner](without)
	if err := r.Run(ended); err != nil {
		t.Errorf("run of a store without Run: %v", err)
	}
	inner := &probe{Store: mem}
	s := over(t, inner, secret(1))
	p, _ = session.Capability[session.Pinger](s)
	r, _ = session.Capability[session.Runner](s)
	if err := p.Ping(t.Context()); err == nil || inner.pings != 1 {
		t.Error("the inner store was not asked")
	}
	if err := r.Run(t.Context()); err != nil || inner.runs != 1 {
		t.Error("the inner store does not run")
	}
	for s, want := range map[session.Store]byte{without: 0, s: 7} {
		if p, _ := session.Capability[session.Placer](s); p.Place() != want {
			t.Errorf("generation %d, want %d", p.Place(), want)
		}
	}
}

// Whose session it was is in the clear; what was in it stays closed.
func TestWhoHearsOfAnExpiredSessionGetsNoValues(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		var told []session.Record
		x, _ := session.Capability[session.Expirer](b.sealed)
		x.OnExpired(func(id session.ID, rec session.Record) {
			if id != alice {
				t.Errorf("told of %v", id)
			}
			told = append(told, rec)
		})
		b.create(alice, record())
		time.Sleep(2 * time.Hour)
		b.create(alice, record()) // which removes the first one
		if len(told) != 1 || told[0].Owner != "42" || len(told[0].Attrs) != 0 {
			t.Errorf("told %+v", told)
		}
		x, _ = session.Capability[session.Expirer](over(t, bare{b.under}, secret(1)))
		x.OnExpired(func(session.ID, session.Record) { t.Error("told by a store that does not notice") })
	})
}

// Whatever somebody writes into the store: an error, no panic, and never a value
// that was not sealed.
func FuzzT40_open(f *testing.F) {
	under, err := memstore.New(nil)
	if err != nil {
		f.Fatal(err)
	}
	s := over(f, under, secret(1))
	rec := record()
	if err := s.Create(f.Context(), alice, rec); err != nil {
		f.Fatal(err)
	}
	raw, err := under.Load(f.Context(), alice)
	if err != nil {
		f.Fatal(err)
	}
	seal, _ := raw.Attrs.Get(sealName)
	card, _ := raw.Attrs.Get("card")
	f.Add(seal, card)
	f.Add(seal, []byte{})
	f.Add([]byte{}, card)
	f.Add([]byte{1, 0, 0, 0, 0}, card[:44])
	f.Add(seal[:len(seal)-1], append(slices.Clone(card), 0))
	f.Fuzz(func(t *testing.T, newSeal, newCard []byte) {
		same := bytes.Equal(newSeal, seal) && bytes.Equal(newCard, card)
		id := session.ID{Generation: 2}
		if same {
			id = alice
		} else {
			// Under an ID of its own, as runs go on in parallel.
			binary.LittleEndian.PutUint64(id.Hash[:], rand.Uint64())
			planted := raw
			planted.Attrs = raw.Attrs.With(sealName, newSeal).With("card", newCard)
			if err := under.Create(t.Context(), id, planted); err != nil {
				t.Fatal(err)
			}
			defer under.Delete(t.Context(), id)
		}
		_, err := s.Load(t.Context(), id)
		if same != (err == nil) || !same && !errors.Is(err, session.ErrCorrupt) && !errors.Is(err, session.ErrNewer) {
			t.Errorf("load: %v", err)
		}
	})
}
