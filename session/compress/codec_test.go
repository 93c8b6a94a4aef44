// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package compress_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/codec/cbor"
	"github.com/belay-ha/belay/session/codec/gob"
	"github.com/belay-ha/belay/session/codec/proto"
	"github.com/belay-ha/belay/session/compress"
	"github.com/belay-ha/belay/session/memstore"
	"github.com/belay-ha/belay/session/redisstore"
)

const (
	markRaw  = 0x9e
	markZstd = 0xbe
	markS2   = 0xde
)

// asIs is a codec of []byte that changes nothing.
type asIs struct{}

func (asIs) Marshal(v any) ([]byte, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, errors.New("not bytes")
	}
	return b, nil
}

func (asIs) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = bytes.Clone(data)
	return nil
}

func open(t testing.TB, inner session.Codec, opts compress.Options) *compress.Codec {
	t.Helper()
	c, err := compress.New(inner, &opts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func text(n int) []byte {
	return []byte(strings.Repeat("a line of a cart that says the same again and again; ", n/53+1)[:n])
}

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	b[0] = '"'
	return b
}

func marshal(t testing.TB, c session.Codec, v any) []byte {
	t.Helper()
	data, err := c.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func reads(t testing.TB, c session.Codec, data, want []byte) {
	t.Helper()
	var got []byte
	if err := c.Unmarshal(data, &got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes %.40q, %v; want %d bytes %.40q", len(got), got, err, len(want), want)
	}
}

func TestWhatIsCompressed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		opts compress.Options
		in   []byte
		mark byte // 0: stays as it is
	}{
		{"empty", compress.Options{}, nil, 0},
		{"just_below_the_default_threshold", compress.Options{}, text(511), 0},
		{"at_the_default_threshold", compress.Options{}, text(512), markZstd},
		{"s2_at_the_default_threshold", compress.Options{Algorithm: compress.S2}, text(512), markS2},
		{"just_below_a_threshold", compress.Options{Threshold: 100}, text(99), 0},
		{"at_a_threshold", compress.Options{Threshold: 100}, text(100), markZstd},
		{"from_the_first_byte_on", compress.Options{Threshold: 1}, text(100), markZstd},
		{"switched_off", compress.Options{Threshold: -1}, text(10_000), 0},
		{"noise", compress.Options{}, noise(10_000), 0},
		{"noise_s2", compress.Options{Algorithm: compress.S2}, noise(10_000), 0},
		{"not_an_eighth_shorter", compress.Options{}, append(noise(10_000), text(1000)...), 0},
		{"begins_like_ours", compress.Options{}, []byte{markZstd, 1, 2, 3}, markRaw},
		{"begins_like_raw", compress.Options{}, []byte{markRaw}, markRaw},
		{"begins_like_ours_and_is_compressed", compress.Options{Algorithm: compress.S2}, append([]byte{markS2}, text(1000)...), markS2},
		{"big", compress.Options{}, text(1 << 20), markZstd},
		{"big_s2", compress.Options{Algorithm: compress.S2}, text(1 << 20), markS2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := open(t, asIs{}, tt.opts)
			data := marshal(t, c, tt.in)
			if tt.mark == 0 && !bytes.Equal(data, tt.in) {
				t.Errorf("%d bytes became %d, %.10x", len(tt.in), len(data), data)
			}
			if tt.mark != 0 && data[0] != tt.mark {
				t.Errorf("begins with %x, want %x", data[0], tt.mark)
			}
			if (tt.mark == markZstd || tt.mark == markS2) && len(data) > len(tt.in)*7/8 {
				t.Errorf("%d bytes became %d", len(tt.in), len(data))
			}
			if cap(data) > len(data)+len(data)/4+64 {
				t.Errorf("%d bytes keep %d in memory", len(data), cap(data))
			}
			reads(t, c, data, tt.in)
			// Whatever is configured, both can be read.
			for _, o := range []compress.Options{{}, {Algorithm: compress.S2}, {Threshold: -1}} {
				reads(t, open(t, asIs{}, o), data, tt.in)
			}
			if again := marshal(t, open(t, asIs{}, tt.opts), tt.in); !bytes.Equal(data, again) {
				t.Error("equal values give different bytes")
			}
		})
	}
}

// A value that becomes an eighth shorter is worth it, and none that does not.
func TestAnEighthIsTheLeast(t *testing.T) {
	t.Parallel()
	c := open(t, asIs{}, compress.Options{Algorithm: compress.S2})
	exact := false
	for n := 1050; n < 1250; n++ {
		in := append(noise(1000), make([]byte, n-1000)...)
		short, bound := 1+len(s2.Encode(nil, in)), n-n/8
		exact = exact || short == bound
		if got := len(marshal(t, c, in)); got != n && got != short || (got == short) != (short <= bound) {
			t.Errorf("%d bytes that can become %d became %d", n, short, got)
		}
	}
	if !exact {
		t.Error("no value became just an eighth shorter")
	}
}

// A new one for each value would be several times as much as the value.
func TestEncodersAndDecodersAreUsedAgain(t *testing.T) { // alone: it counts what is allocated
	for _, o := range []compress.Options{{}, {Algorithm: compress.S2}} {
		c := open(t, asIs{}, o)
		in := text(20_000)
		data := marshal(t, c, in)
		for _, tt := range []struct {
			what string
			do   func()
			most uint64
		}{
			{"writing", func() { marshal(t, c, in) }, 1000},
			{"reading", func() { reads(t, c, data, in) }, 3 * 20_000}, // it, and what asIs makes of it
		} {
			least := uint64(1 << 63) // a pool may be emptied at any time
			for range 50 {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				tt.do()
				runtime.ReadMemStats(&after)
				least = min(least, after.TotalAlloc-before.TotalAlloc)
			}
			if least > tt.most {
				t.Errorf("algorithm %d: %s allocates %d bytes, want at most %d", o.Algorithm, tt.what, least, tt.most)
			}
		}
	}
}

// So compression can be switched on while sessions exist.
func TestValuesFromBeforeAreRead(t *testing.T) {
	t.Parallel()
	type profile struct{ Name string }
	for _, inner := range []session.Codec{session.JSON{}, cbor.Codec{}, gob.Codec{}} {
		for range 2 {
			data := marshal(t, inner, profile{"Zoë"})
			var got profile
			if err := open(t, inner, compress.Options{}).Unmarshal(data, &got); err != nil || got.Name != "Zoë" {
				t.Errorf("%T: %v, %v", inner, got, err)
			}
		}
	}
}

// The marks were chosen so: no value of these codecs begins with one.
func TestMarksBeginNoValue(t *testing.T) {
	t.Parallel()
	for _, mark := range []byte{markRaw, markZstd, markS2} {
		for n := range 40 {
			data := append([]byte{mark}, make([]byte, n)...)
			if (session.JSON{}).Unmarshal(data, new(any)) == nil || (cbor.Codec{}).Unmarshal(data, new(any)) == nil ||
				(gob.Codec{}).Unmarshal(data, new(string)) == nil {
				t.Errorf("%x begins a value", data)
			}
		}
		// A protobuf message begins with a tag; its lower three bits are a wire type.
		if mark&7 == 0 || mark&7 == 1 || mark&7 == 2 || mark&7 == 5 {
			t.Errorf("%x can begin a protobuf message: only 3, 4, 6 and 7 are no wire types of a field", mark)
		}
	}
}

func TestT42_bombs_are_refused(t *testing.T) { // alone: it counts what is allocated
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 64<<20)
	frame := enc.EncodeAll(zeros, []byte{markZstd})
	var streamed bytes.Buffer // does not say how long it is
	streamed.WriteByte(markZstd)
	stream, err := zstd.NewWriter(&streamed, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	if err != nil {
		t.Fatal(err)
	}
	for rest := zeros; len(rest) > 0; rest = rest[1<<20:] {
		if _, err := stream.Write(rest[:1<<20]); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.Close(); err != nil {
		t.Fatal(err)
	}
	many := []byte{markZstd}
	for range 64 {
		many = enc.EncodeAll(zeros[:1<<20], many)
	}
	for what, bomb := range map[string][]byte{
		"zstd":                           frame,
		"zstd of unknown length":         streamed.Bytes(),
		"zstd of many frames":            many,
		"s2":                             append([]byte{markS2}, s2.Encode(nil, zeros)...),
		"s2 that says more than it has":  {markS2, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0},
		"zstd that says more than it is": append([]byte{markZstd, 0x28, 0xb5, 0x2f, 0xfd, 0xe0}, bytes.Repeat([]byte{0x7f}, 16)...),
		"raw":                            append([]byte{markRaw}, zeros[:2<<20]...),
		"not ours":                       zeros[:2<<20],
	} {
		c := open(t, asIs{}, compress.Options{})
		var got []byte
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := c.Unmarshal(bomb, &got)
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%s: %d bytes became %d", what, len(bomb), len(got))
		}
		// A bomb would take 64 MiB.
		if n := after.TotalAlloc - before.TotalAlloc; n > 32<<20 {
			t.Errorf("%s: %d MiB were reserved", what, n>>20)
		}
	}
}

func TestT42_size_is_limited_both_ways(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{600, 1000, 5000, 300_000, 1 << 20, 3 << 20} {
		for _, o := range []compress.Options{{}, {Algorithm: compress.S2}, {Threshold: -1}} {
			o.MaxDecoded = limit
			c := open(t, asIs{}, o)
			reads(t, c, marshal(t, c, text(limit)), text(limit))
			if _, err := c.Marshal(text(limit + 1)); err == nil {
				t.Errorf("%d bytes were written, and could not be read", limit+1)
			}
			o.MaxDecoded = 2 * limit
			over := marshal(t, open(t, asIs{}, o), text(limit+1))
			if err := c.Unmarshal(over, new([]byte)); err == nil || !strings.Contains(err.Error(), "MaxDecoded") {
				t.Errorf("%d bytes, limit %d: %v", limit+1, limit, err)
			}
		}
	}
}

func TestT42_bit_flips_do_no_harm(t *testing.T) {
	t.Parallel()
	in := append(text(900), noise(300)...)
	for _, a := range []compress.Algorithm{compress.Zstd, compress.S2} {
		c := open(t, asIs{}, compress.Options{Algorithm: a, MaxDecoded: 4096})
		data := marshal(t, c, in)
		for i := range data {
			for bit := byte(1); bit != 0; bit <<= 1 {
				bad := bytes.Clone(data)
				bad[i] ^= bit
				var got []byte
				err := c.Unmarshal(bad, &got)
				if len(got) > 4096 {
					t.Errorf("%d bytes from a value of %d", len(got), len(in))
				}
				// zstd has a checksum; a changed mark leaves it to the inner codec.
				if a == compress.Zstd && i > 0 && err == nil && !bytes.Equal(got, in) {
					t.Errorf("bit %x of byte %d flipped, and %d bytes were read", bit, i, len(got))
				}
			}
			if err := c.Unmarshal(data[:i], new([]byte)); i > 0 && err == nil {
				t.Errorf("the first %d of %d bytes were read", i, len(data))
			}
		}
		reads(t, c, data, in) // a pooled decoder that saw all this still works
	}
}

// An application that changed its codec: what it cannot read is absent and told,
// and the next write replaces it. It is no error page.
func TestT41_a_value_of_another_codec_is_absent(t *testing.T) {
	t.Parallel()
	store, err := memstore.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	note := session.NewKey[string]("note")
	cookie, told := "", 0
	visit := func(c session.Codec, f func(s *session.Session)) {
		t.Helper()
		hooks := session.Hooks{Undecodable: func(context.Context, string, error) { told++ }}
		m, err := session.New(store, &session.Options{Codec: c, Hooks: hooks})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("GET", "https://example.com/", nil)
		r.Header.Set("Cookie", cookie)
		w := httptest.NewRecorder()
		m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			s, err := m.Get(r.Context())
			if err != nil {
				t.Error(err)
			}
			f(s)
		})).ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			t.Errorf("status %d", w.Code)
		}
		for _, c := range w.Result().Cookies() {
			cookie = c.Name + "=" + c.Value
		}
	}
	long := string(text(1000))
	visit(open(t, session.JSON{}, compress.Options{}), func(s *session.Session) { note.Set(s, long) })
	for i, c := range []session.Codec{session.JSON{}, cbor.Codec{}, gob.Codec{}, proto.Codec{}, open(t, cbor.Codec{}, compress.Options{})} {
		visit(c, func(s *session.Session) {
			if v, ok := note.Get(s); ok || v != "" || told != i+1 {
				t.Errorf("%T read %.20q, told %d times", c, v, told)
			}
		})
	}
	visit(cbor.Codec{}, func(s *session.Session) { note.Set(s, "new") })
	visit(cbor.Codec{}, func(s *session.Session) {
		if v, _ := note.Get(s); v != "new" {
			t.Errorf("read %q", v)
		}
	})
}

func TestErrorsOfTheInnerCodec(t *testing.T) {
	t.Parallel()
	c := open(t, session.JSON{}, compress.Options{})
	if _, err := c.Marshal(make(chan int)); err == nil {
		t.Error("a channel was written")
	}
	if err := c.Unmarshal([]byte(`"text"`), new(int)); err == nil {
		t.Error("text was read as a number")
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		inner session.Codec
		opts  *compress.Options
		want  string
	}{
		{nil, nil, "inner codec"},
		{session.JSON{}, &compress.Options{Algorithm: 2}, "algorithm 2"},
		{session.JSON{}, &compress.Options{MaxDecoded: -1}, "MaxDecoded of -1"},
		{session.JSON{}, &compress.Options{MaxDecoded: 1<<30 + 1}, "MaxDecoded of"},
	} {
		if _, err := compress.New(tt.inner, tt.opts); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.opts, err, tt.want)
		}
	}
}

func TestLimitsMayBeAtTheirEnds(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{1, 1 << 30} {
		if _, err := compress.New(asIs{}, &compress.Options{MaxDecoded: limit}); err != nil {
			t.Errorf("%d: %v", limit, err)
		}
	}
}

func TestNoGoroutineStays(t *testing.T) {
	before := runtime.NumGoroutine()
	for _, a := range []compress.Algorithm{compress.Zstd, compress.S2} {
		c := open(t, asIs{}, compress.Options{Algorithm: a})
		reads(t, c, marshal(t, c, text(100_000)), text(100_000))
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines, %d before", after, before)
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	for _, a := range []compress.Algorithm{compress.Zstd, compress.S2} {
		c := open(t, asIs{}, compress.Options{Algorithm: a})
		var wg sync.WaitGroup
		for n := range 8 {
			wg.Go(func() {
				for i := range 50 {
					in := text(500 + 97*n + i)
					data, err := c.Marshal(in)
					var got []byte
					if err == nil {
						err = c.Unmarshal(data, &got)
					}
					if err != nil || !bytes.Equal(got, in) {
						t.Errorf("%d bytes became %d, %v", len(in), len(got), err)
					}
				}
			})
		}
		wg.Wait()
	}
}

func FuzzT42_unmarshal(f *testing.F) {
	const limit = 64 << 10
	c := open(f, asIs{}, compress.Options{MaxDecoded: limit})
	for _, a := range []compress.Algorithm{compress.Zstd, compress.S2} {
		f.Add(marshal(f, open(f, asIs{}, compress.Options{Algorithm: a}), text(2000)))
	}
	f.Add([]byte{})
	f.Add([]byte{markRaw})
	f.Add([]byte{markZstd, 0x28, 0xb5, 0x2f, 0xfd})
	f.Add([]byte{markS2, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, data []byte) {
		var got []byte
		if c.Unmarshal(data, &got) != nil {
			return
		}
		if len(got) > limit {
			t.Fatalf("%d bytes", len(got))
		}
		reads(t, c, marshal(t, c, got), got)
	})
}

// A bomb that somebody put into the store: its attribute is absent, and told; the
// rest of the session, and the server, are what they were.
func TestT42_a_bomb_in_the_store_is_absent(t *testing.T) { // alone: it counts what is allocated
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	bomb := enc.EncodeAll(make([]byte, 64<<20), []byte{markZstd})
	mem, err := memstore.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	net, err := redisstore.Open(t.Context(), servertest.StartRedis(t).URL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = net.Close() }()
	for name, store := range map[string]session.Store{"memory": mem, "redis": net} {
		var id session.ID
		told := 0
		m, err := session.New(store, &session.Options{
			Codec: open(t, session.JSON{}, compress.Options{}),
			Hooks: session.Hooks{
				Created:     func(_ context.Context, i session.Info) { id = i.ID },
				Undecodable: func(context.Context, string, error) { told++ },
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		note, who := session.NewKey[string]("note"), session.NewKey[string]("who")
		cookie := ""
		visit := func(f func(s *session.Session)) {
			t.Helper()
			r := httptest.NewRequest("GET", "https://example.com/", nil)
			r.Header.Set("Cookie", cookie)
			w := httptest.NewRecorder()
			m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				s, err := m.Get(r.Context())
				if err != nil {
					t.Error(err)
				}
				f(s)
			})).ServeHTTP(w, r)
			if w.Code != http.StatusOK {
				t.Errorf("%s: status %d", name, w.Code)
			}
			for _, c := range w.Result().Cookies() {
				cookie = c.Name + "=" + c.Value
			}
		}
		visit(func(s *session.Session) { note.Set(s, "n"); who.Set(s, "Ann") })
		rec, err := store.Load(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		was := rec.Rev
		rec.Rev = rec.Rev.Next()
		rec.Attrs = rec.Attrs.With("note", bomb)
		if err := store.Update(t.Context(), id, rec, was); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		visit(func(s *session.Session) {
			if v, ok := note.Get(s); ok || v != "" || told != 1 {
				t.Errorf("%s: read %d bytes, told %d times", name, len(v), told)
			}
			if v, _ := who.Get(s); v != "Ann" {
				t.Errorf("%s: the rest of the session is %q", name, v)
			}
		})
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 32<<20 {
			t.Errorf("%s: %d MiB were reserved", name, n>>20)
		}
	}
}
