// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package framing_test

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"testing"

	"github.com/belay-ha/belay/internal/framing"
)

// scan returns where the first message that ends in text does; -1: none. It looks
// at pieces of the text.
func scan(s *framing.Scanner, text []byte, piece int) (end int, err error) {
	for at := 0; at < len(text); {
		n, over, err := s.Scan(text[at:min(at+piece, len(text))])
		if at += n; err != nil || over {
			return at, err
		}
	}
	return -1, nil
}

// same fails the test if pieces of one byte lead to something else than the whole.
func same(t *testing.T, kind framing.Kind, text []byte) (int, error) {
	t.Helper()
	whole, werr := scan(&framing.Scanner{Kind: kind}, text, len(text)+1)
	bytewise, berr := scan(&framing.Scanner{Kind: kind}, text, 1)
	if whole != bytewise || werr != berr {
		t.Fatalf("whole: %d %v, by the byte: %d %v", whole, werr, bytewise, berr)
	}
	return whole, werr
}

func TestScannerFindsTheEnd(t *testing.T) {
	for _, text := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"\r\nGET / HTTP/1.0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;a\r\nabc\r\n0\r\nX: y\r\n\r\n",
	} {
		if end, err := same(t, framing.Requests, []byte(text+"GET")); end != len(text) || err != nil {
			t.Errorf("%q ends at %d, %v", text, end, err)
		}
	}
}

// FuzzRequest compares with net/http: where this finds the end of a request, that
// does too.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\nHost: x\n\n",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		end, err := same(t, framing.Requests, text)
		if err != nil || end < 0 || text[0] == '\r' {
			return
		}
		agree(t, text, end)
	})
}

// agree reads the first request with net/http.
func agree(t *testing.T, text []byte, end int) {
	t.Helper()
	r := bytes.NewReader(text)
	br := bufio.NewReader(r)
	req, err := http.ReadRequest(br)
	if err != nil {
		return // it is stricter there
	}
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return
	}
	if at := len(text) - r.Len() - br.Buffered(); at != end {
		t.Fatalf("ends at %d, for net/http at %d", end, at)
	}
}

func FuzzChunks(f *testing.F) {
	for _, s := range []string{"0\r\n\r\n", "3\r\nabc\r\n0\r\n\r\n", "3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n", "3\nabc\r\n0\r\n\r\n", "ffffffffffffffff\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, chunks []byte) {
		text := append([]byte("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"), chunks...)
		if end, err := same(t, framing.Requests, text); err == nil && end >= 0 {
			agree(t, text, end)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 204\r\n\r\n", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
		"HTTP/1.0 200 OK\r\n\r\nok", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		end, err := same(t, framing.Answers, text)
		if err != nil || end < 0 {
			return
		}
		r := bytes.NewReader(text)
		br := bufio.NewReader(r)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return
		}
		if at := len(text) - r.Len() - br.Buffered(); at != end {
			t.Fatalf("ends at %d, for net/http at %d", end, at)
		}
	})
}
