// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sealed

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
)

func testCookies(t testing.TB) *Cookies {
	t.Helper()
	c, err := NewCookies([][]byte{bytes.Repeat([]byte{1}, keySize)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func sample() *session.Carried {
	at := time.UnixMilli(1_800_000_000_000)
	return &session.Carried{
		Record: session.Record{
			Rev: session.Rev{N: 3}, Owner: "42", Created: at, Seen: at, Expires: at.Add(time.Minute), Ends: at.Add(time.Hour), Issued: at, AuthTime: at,
			Attrs: session.Attrs{{Name: "a", Value: []byte(`"x"`)}, {Name: "b", Value: []byte(`1`)}},
		},
		Checked: at, Epoch: 7, Rest: session.ID{Generation: 1, Hash: [20]byte{9}},
	}
}

// Whatever a client sends, it is opened or refused, and costs no more memory
// than it is long.
func FuzzSC7_what_a_client_sends(f *testing.F) {
	c := testCookies(f)
	id := session.ID{Hash: [20]byte{1}}
	whole, err := c.Seal("__Host-id", id, sample())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:40])
	f.Add(whole[1:])
	f.Add("")
	f.Add("AQ")
	f.Add("Ag" + whole[2:])
	f.Add(strings.Repeat("A", 3500))
	f.Fuzz(func(t *testing.T, text string) {
		got, err := c.Open("__Host-id", id, text)
		switch {
		case text == whole && err != nil:
			t.Fatal(err)
		case err == nil && !reflect.DeepEqual(got, sample()): // the same key sealed it in another process
			t.Fatalf("%q is a session: %+v", text, got)
		case err != nil && !errors.Is(err, session.ErrCorrupt) && !errors.Is(err, session.ErrNewer):
			t.Fatal(err)
		}
	})
}

// Also what is under a right seal is parsed as if it were not.
func FuzzSC7_what_was_sealed(f *testing.F) {
	s := sample()
	good := binary.AppendVarint(nil, s.Checked.UnixMilli())
	good = binary.AppendUvarint(good, s.Epoch)
	good = appendID(append(good, 1), s.Rest)
	good = session.AppendRecord(good, &s.Record)
	f.Add(good)
	f.Add(good[:10])
	f.Add(good[:5])
	f.Add([]byte{0})
	f.Add([]byte{0, 0})
	f.Add([]byte{0, 0x80})
	f.Add([]byte{0, 0, 0})
	f.Add([]byte{0, 0, 2})
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 40))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseCarried(b)
		if err != nil {
			if !errors.Is(err, session.ErrCorrupt) && !errors.Is(err, session.ErrNewer) {
				t.Fatal(err)
			}
			return
		}
		size := 0
		for _, a := range c.Attrs {
			size += len(a.Name) + len(a.Value)
		}
		if size > len(b) {
			t.Fatalf("%d bytes became attributes of %d", len(b), size)
		}
	})
}

// Nothing is inflated, and a count that lies allocates nothing.
func TestSC7_memory_is_bounded_by_the_length_of_the_cookie(t *testing.T) {
	c := testCookies(t)
	id := session.ID{Hash: [20]byte{1}}
	lies := func(at int) string {
		// A record that claims 2^40 attributes or Once keys, under a right seal.
		plain := []byte{0, 0, 0, 'B', 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}
		if at > 0 {
			plain = append(plain, 0)
		}
		plain = binary.AppendUvarint(plain, 1<<40)
		k := &c.ring[0]
		out := append([]byte{cookieVersion}, k.id[:]...)
		nonce := make([]byte, nonceSize)
		out = append(out, nonce...)
		return base64.RawURLEncoding.EncodeToString(k.cookie.Seal(out, nonce, plain, c.aad("n", id)))
	}
	for what, text := range map[string]string{
		"a long text":            strings.Repeat("A", 60_000),
		"a megabyte":             strings.Repeat("A", 1<<20),
		"a count of Once keys":   lies(0),
		"a count of attributes":  lies(1),
		"the longest one let in": strings.Repeat("A", c.MaxSize()),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := c.Open("n", id, text)
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%s is a session", what)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 64<<10 {
			t.Errorf("%s: %d bytes were allocated", what, n)
		}
	}
}

func TestSC7_every_bit_counts(t *testing.T) {
	t.Parallel()
	c := testCookies(t)
	id := session.ID{Hash: [20]byte{1}}
	text, err := c.Seal("n", id, sample())
	if err != nil {
		t.Fatal(err)
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		for bit := range 8 {
			b[i] ^= 1 << bit
			if _, err := c.Open("n", id, base64.RawURLEncoding.EncodeToString(b)); err == nil {
				t.Fatalf("bit %d of byte %d does not count", bit, i)
			}
			b[i] ^= 1 << bit
		}
	}
	got, err := c.Open("n", id, text)
	if err != nil || got.Owner != "42" || got.Epoch != 7 || got.Rest != sample().Rest || !got.Checked.Equal(sample().Checked) || len(got.Attrs) != 2 {
		t.Errorf("%+v, %v", got, err)
	}
}

// What ends too early is damage: who asked is told nothing else.
func TestSC7_a_sealed_session_may_end_anywhere(t *testing.T) {
	t.Parallel()
	s := sample()
	whole := binary.AppendVarint(nil, s.Checked.UnixMilli())
	whole = binary.AppendUvarint(whole, s.Epoch)
	whole = appendID(append(whole, 1), s.Rest)
	whole = session.AppendRecord(whole, &s.Record)
	for n := range whole {
		if _, err := parseCarried(whole[:n]); !errors.Is(err, session.ErrCorrupt) {
			t.Errorf("%d of %d bytes: %v", n, len(whole), err)
		}
	}
	if got, err := parseCarried(whole); err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, unknown := range []byte{2, 3, 0x80, 0xff} { // a newer program's, in front of a good record
		flagged := binary.AppendUvarint(binary.AppendVarint(nil, s.Checked.UnixMilli()), s.Epoch)
		if _, err := parseCarried(session.AppendRecord(append(flagged, unknown), &s.Record)); !errors.Is(err, session.ErrCorrupt) {
			t.Errorf("flags %x: %v", unknown, err)
		}
	}
}

func TestNewCookiesAccepts(t *testing.T) {
	t.Parallel()
	keys := [][]byte{bytes.Repeat([]byte{1}, keySize)}
	for _, tc := range []struct {
		opts CookieOptions
		size int
	}{
		{CookieOptions{}, 3500},
		{CookieOptions{MaxSize: 512}, 512},
		{CookieOptions{MaxSize: 4096, Scope: strings.Repeat("x", 255)}, 4096},
	} {
		if c, err := NewCookies(keys, &tc.opts); err != nil || c.MaxSize() != tc.size {
			t.Errorf("MaxSize %d: %v", tc.opts.MaxSize, err)
		}
	}
}

func TestNewCookiesRefuses(t *testing.T) {
	t.Parallel()
	good := bytes.Repeat([]byte{1}, keySize)
	for what, tc := range map[string]struct {
		keys [][]byte
		opts CookieOptions
	}{
		"no key":          {nil, CookieOptions{}},
		"a short key":     {[][]byte{good[1:]}, CookieOptions{}},
		"the same twice":  {[][]byte{good, good}, CookieOptions{}},
		"too small":       {[][]byte{good}, CookieOptions{MaxSize: 511}},
		"too big":         {[][]byte{good}, CookieOptions{MaxSize: 4097}},
		"an endless name": {[][]byte{good}, CookieOptions{Scope: strings.Repeat("x", 256)}},
	} {
		if _, err := NewCookies(tc.keys, &tc.opts); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}
