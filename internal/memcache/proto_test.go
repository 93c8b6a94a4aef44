// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcache

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestTimeToLiveNeverEndsEarly(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	for _, tt := range []struct {
		ttl  time.Duration
		want int64
	}{
		{1, 2},
		{time.Millisecond, 2},
		{time.Second, 2},
		{time.Second + 1, 3},
		{1500 * time.Millisecond, 3},
		{time.Hour, 3601},
		{maxRelative*time.Second - time.Second, maxRelative},
		{maxRelative * time.Second, now.Unix() + maxRelative + 1},
		{400 * 24 * time.Hour, now.Unix() + 400*86400 + 1},
		{200 * 365 * 24 * time.Hour, math.MaxInt32},
	} {
		if got, err := seconds(tt.ttl, now); got != tt.want || err != nil {
			t.Errorf("%v: sent as %d, %v, want %d", tt.ttl, got, err, tt.want)
		}
	}
	for _, ttl := range []time.Duration{0, -1, -time.Hour, math.MinInt64} {
		if _, err := seconds(ttl, now); !errors.Is(err, ErrTTL) {
			t.Errorf("%v: %v, want ErrTTL: 0 would never end", ttl, err)
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, key string
		ok        bool
	}{
		{"longest", strings.Repeat("k", 250), true},
		{"too_long", strings.Repeat("k", 251), false},
		{"empty", "", false},
		{"longest_binary", strings.Repeat("\x00", 186), true},
		{"del_needs_base64", strings.Repeat("k", 199) + "\x7f", false},
		{"too_long_binary", strings.Repeat("\x00", 187), false},
	} {
		if err := checkKey(tt.key); (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestRequestsAsTheyTravel(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		r    request
		want string
	}{
		{request{op: opGet, key: "k"}, "mg k v c t O7\r\n"},
		{request{op: opGet, key: "k", ttl: 5}, "mg k v c t T5 O7\r\n"},
		{request{op: opTouch, key: "k", ttl: 5}, "mg k c t T5 O7\r\n"},
		{request{op: opSet, key: "k", ttl: 5, value: []byte("a\r\nb")}, "ms k 4 c T5 O7\r\na\r\nb\r\n"},
		{request{op: opSet, key: "k", ttl: 5, head: []byte("head "), value: []byte("body")}, "ms k 9 c T5 O7\r\nhead body\r\n"},
		{request{op: opSet, key: "k", ttl: 5, mode: 'E'}, "ms k 0 c T5 ME O7\r\n\r\n"},
		{request{op: opSet, key: "k", ttl: 5, cas: 9}, "ms k 0 c T5 C9 O7\r\n\r\n"},
		{request{op: opDelete, key: "k"}, "md k O7\r\n"},
		{request{op: opDelete, key: "a b", cas: 9}, "md YSBi b C9 O7\r\n"},
		{request{op: opMulti, keys: []string{"a", " "}}, "mg a q v c t O7\r\nmg IA== b q v c t O8\r\nmn\r\n"},
		{request{op: opVersion}, "version\r\n"},
		{request{op: opStats}, "stats\r\n"},
		{request{op: opStats, group: "settings"}, "stats settings\r\n"},
	} {
		if got := string(tt.r.append(nil, 7)); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		line string
		want answer
	}{
		{"HD", answer{code: codeHD}},
		{"HD O1 c6", answer{code: codeHD, opaque: 1, cas: 6, flags: hasOpaque | hasCAS}},
		{"VA 3 c2 t-1 O18446744073709551615", answer{code: codeVA, size: 3, cas: 2, ttl: -1, opaque: math.MaxUint64, flags: hasOpaque | hasCAS | hasTTL}},
		{"VA 0 W X Z s5", answer{code: codeVA}},
		{"EN O4", answer{code: codeEN, opaque: 4, flags: hasOpaque}},
		{"NF ", answer{code: codeNF}},
		{"NS", answer{code: codeNS}},
		{"EX", answer{code: codeEX}},
		{"MN", answer{code: codeMN}},
		{"END", answer{code: codeEnd}},
		{"STORED", answer{code: codeStored}},
		{"ERROR", answer{code: codeError}},
		{"ERROR Too many open connections", answer{code: codeError, text: "Too many open connections"}},
		{"CLIENT_ERROR bad", answer{code: codeClientError, text: "bad"}},
		{"SERVER_ERROR out of memory", answer{code: codeServerError, text: "out of memory"}},
		{"VERSION 1.6.18", answer{code: codeVersion, text: "1.6.18"}},
		{"STAT a b c", answer{code: codeStat, text: "a b c"}},
	} {
		if got, err := parseAnswer([]byte(tt.line), 100); err != nil || got != tt.want {
			t.Errorf("%q: %+v, %v", tt.line, got, err)
		}
	}
	for _, line := range []string{
		"", " ", "H", "HDX", "VA", "VA ", "VA -1", "VA +1", "VA 101", "VA 1x", "VA 99999999999999999999999",
		"HD O", "HD Ox", "HD O1 O1", "HD c-1", "HD t-2", "HD tx", "hd", "ERRORS", "STOREDX", "ENDX", "+PONG", "HTTP/1.1 400", "secret value",
	} {
		_, err := parseAnswer([]byte(line), 100)
		if !errors.Is(err, ErrProtocol) {
			t.Errorf("%q was believed: %v", line, err)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("the error repeats what may be data: %v", err)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		"HD O1 c6", "VA 3 c2 t-1 O7", "VA 1048577 ", "EN", "NF ", "EX O9", "MN", "STAT a b", "VERSION 1.6.18",
		"ERROR", "CLIENT_ERROR bad data chunk", "SERVER_ERROR out of memory storing object", "VA 99999999999999999999 O1", "HD  O1", "\x00",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		const most = 1 << 20
		a, err := parseAnswer(line, most)
		if err != nil {
			if !errors.Is(err, ErrProtocol) || len(err.Error()) > 600 {
				t.Errorf("error of %d bytes: %v", len(err.Error()), err)
			}
			return
		}
		if a.size < 0 || a.size > most || a.size > 0 && a.code != codeVA {
			t.Errorf("a size of %d", a.size)
		}
		if len(a.text) > len(line) {
			t.Error("more text than came")
		}
		if a.code > codeMN {
			return
		}
		// What was understood, written again, is understood the same.
		again := string(line[:2])
		if a.code == codeVA {
			again += " " + strconv.Itoa(a.size)
		}
		if a.flags&hasOpaque != 0 {
			again += fmt.Sprintf(" O%d", a.opaque)
		}
		if a.flags&hasCAS != 0 {
			again += fmt.Sprintf(" c%d", a.cas)
		}
		if a.flags&hasTTL != 0 {
			again += fmt.Sprintf(" t%d", a.ttl)
		}
		if b, err := parseAnswer([]byte(again), most); err != nil || a != b {
			t.Errorf("%q: %+v, and again from %q: %+v, %v", line, a, again, b, err)
		}
	})
}

// FuzzRequest reads requests as the server does: whatever key and value, it is
// one line, no longer than the server takes, and the value.
func FuzzRequest(f *testing.F) {
	f.Add("k", []byte("v"), uint64(1), uint64(0), byte('E'), int64(time.Second))
	f.Add("a b\r\nflush_all", []byte("x\r\nflush_all\r\n"), uint64(math.MaxUint64), uint64(7), byte(0), int64(1))
	f.Add(strings.Repeat("\xff", 250), []byte{}, uint64(5), uint64(9), byte('R'), int64(math.MaxInt64))
	f.Add("\x7f", []byte{0}, uint64(5), uint64(9), byte(0), int64(0))
	f.Fuzz(func(t *testing.T, key string, value []byte, seq, cas uint64, mode byte, ttl int64) {
		if checkKey(key) != nil {
			return
		}
		s, err := seconds(time.Duration(ttl), time.Unix(1_800_000_000, 0))
		if err != nil {
			return
		}
		if mode != 'E' && mode != 'R' {
			mode = 0
		}
		for _, r := range []request{
			{op: opSet, key: key, value: value, cas: cas, mode: mode, ttl: s},
			{op: opGet, key: key, ttl: s},
			{op: opTouch, key: key, ttl: s},
			{op: opDelete, key: key, cas: cas},
		} {
			got := r.append([]byte("before"), seq)
			line, rest, ok := bytes.Cut(bytes.TrimPrefix(got, []byte("before")), []byte("\r\n"))
			if !ok || len(line) > 400 {
				t.Fatalf("a command line of %d bytes", len(line))
			}
			if r.op == opSet && !bytes.Equal(rest, append(bytes.Clone(value), "\r\n"...)) || r.op != opSet && len(rest) != 0 {
				t.Fatalf("after the line: %q", rest)
			}
			words := strings.Split(string(line), " ")
			if len(words[1]) > maxKey {
				t.Fatalf("a key of %d bytes is sent", len(words[1]))
			}
			read := request{op: r.op, key: words[1], value: r.value}
			words = words[2:]
			if r.op == opSet {
				if words[0] != strconv.Itoa(len(value)) {
					t.Fatalf("announces %s bytes of %d", words[0], len(value))
				}
				words = words[1:]
			}
			var opaque uint64
			for _, w := range words {
				n, _ := strconv.ParseUint(w[1:], 10, 64)
				switch w[0] {
				case 'b':
					raw, err := base64.StdEncoding.DecodeString(read.key)
					if err != nil {
						t.Fatal(err)
					}
					read.key = string(raw)
				case 'T':
					read.ttl = int64(n)
				case 'C':
					read.cas = n
				case 'M':
					read.mode = w[1]
				case 'O':
					opaque = n
				}
			}
			if read.key != r.key || read.ttl != r.ttl || read.cas != r.cas || read.mode != r.mode || opaque != seq {
				t.Fatalf("%q is read as %+v, number %d", line, read, opaque)
			}
			if read.op == opSet && (read.ttl < 2 || read.ttl > math.MaxInt32) {
				t.Fatalf("a time to live of %d", read.ttl)
			}
		}
	})
}
