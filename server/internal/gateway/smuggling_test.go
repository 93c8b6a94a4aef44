// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/wire"
	"github.com/belay-ha/belay/server/internal/gateway"
	"github.com/belay-ha/belay/server/internal/gateway/edge"
)

// pipe is the composed gateway on sockets, with a server behind it that keeps the
// bytes it gets and answers with bytes.
type pipe struct {
	address string
	tls     *tls.Config // of the client; nil: plain

	mu     sync.Mutex
	conns  []*bytes.Buffer // what came, by connection
	open   map[net.Conn]bool
	answer string // to everything but the marker
}

const good = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"

// overBoth runs a test on a plain listener and on one with TLS.
func overBoth(t *testing.T, test func(t *testing.T, p *pipe)) {
	t.Helper()
	for _, secure := range []bool{false, true} {
		t.Run(map[bool]string{false: "plain", true: "tls"}[secure], func(t *testing.T) { test(t, newPipe(t, secure)) })
	}
}

func newPipe(t *testing.T, secure bool) *pipe {
	t.Helper()
	p := &pipe{answer: good, open: map[net.Conn]bool{}}
	back, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := back.Accept()
			if err != nil {
				return
			}
			var in bytes.Buffer
			p.mu.Lock()
			p.conns = append(p.conns, &in)
			p.open[c] = true
			p.mu.Unlock()
			wg.Go(func() { p.serve(c, &in) })
		}
	})
	cfg := config("app")
	cfg.Pools[0].Servers[0].Address = back.Addr().String()
	cfg.Pools[0].Health.Fall = 1000 // what it is made to answer is not its health
	cfg.Pools[0].Health.Interval = time.Hour
	g := gateway.New(cfg, &gateway.Options{Dial: (&net.Dialer{}).DialContext})
	ctx, cancel := context.WithCancel(context.Background())
	wg.Go(func() { g.Run(ctx) })
	if err := g.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.address = front.Addr().String()
	o := edge.Options{Handler: g, Logger: slog.New(slog.DiscardHandler)}
	if secure {
		pair, roots := selfSigned(t)
		o.TLS = edge.Secure([]tls.Certificate{pair}, 0, edge.ClientCertsNone, nil)
		p.tls = &tls.Config{RootCAs: roots, ServerName: "example.com", NextProtos: []string{"http/1.1"}}
	}
	e := edge.New(o)
	wg.Go(func() {
		if err := e.Run(ctx, front); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		g.CloseTunnels()
		back.Close()
		p.mu.Lock()
		for c := range p.open {
			c.Close()
		}
		p.mu.Unlock()
		wg.Wait()
	})
	return p
}

func (p *pipe) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	if p.tls != nil {
		return tls.Client(c, p.tls)
	}
	return c
}

func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return s.TLS.Certificates[0], roots
}

// tee keeps what is read from it.
type tee struct {
	p  *pipe
	c  net.Conn
	in *bytes.Buffer
}

func (r tee) Read(b []byte) (int, error) {
	n, err := r.c.Read(b)
	r.p.mu.Lock()
	r.in.Write(b[:n])
	r.p.mu.Unlock()
	return n, err
}

func (p *pipe) serve(c net.Conn, in *bytes.Buffer) {
	defer func() {
		c.Close()
		p.mu.Lock()
		delete(p.open, c)
		p.mu.Unlock()
	}()
	br := bufio.NewReader(tee{p, c, in})
	for {
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		answer := "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nmarker"
		switch r.URL.Path {
		case "/marker":
		case "/healthz", wire.ProbePath:
			answer = good
		default:
			p.mu.Lock()
			answer = p.answer
			p.mu.Unlock()
		}
		io.WriteString(c, answer)
		if strings.Contains(answer, "X-Hang-Up") {
			return
		}
	}
}

// forget empties what was kept, and returns the requests in it, all of which have
// to be whole and without doubt.
func (p *pipe) forget(t *testing.T) []string {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	var got []string
	for _, in := range p.conns {
		br := bufio.NewReader(bytes.NewReader(bytes.Clone(in.Bytes())))
		in.Reset()
		for {
			r, err := http.ReadRequest(br)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Errorf("the server got something that is no request: %v", err)
				break
			}
			body, err := io.ReadAll(r.Body)
			if err == nil && r.URL.Path != "/healthz" && r.URL.Path != wire.ProbePath {
				got = append(got, fmt.Sprintf("%s %s %s", r.Method, r.RequestURI, body))
			}
		}
	}
	return got
}

// exchange writes to a new connection and returns n answers, and whether the last
// of them ends it. Further pieces are written one by one, after an answer each.
func (p *pipe) exchange(t *testing.T, n int, pieces ...string) (codes []int, closed bool) {
	t.Helper()
	c := p.dial(t)
	defer c.Close()
	br := bufio.NewReader(c)
	for len(codes) < n {
		if len(pieces) > 0 {
			io.WriteString(c, pieces[0])
			pieces = pieces[1:]
		}
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			var late net.Error
			if errors.As(err, &late) && late.Timeout() {
				t.Error("the gateway neither answers nor hangs up")
			}
			return codes, true
		}
		codes = append(codes, resp.StatusCode)
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return codes, true
		}
		if resp.Close {
			_, err := br.ReadByte()
			return codes, err != nil
		}
	}
	return codes, false
}

func (p *pipe) marker(t *testing.T) {
	t.Helper()
	c := p.dial(t)
	defer c.Close()
	io.WriteString(c, "GET /marker HTTP/1.1\r\nHost: shop\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal("marker: ", err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); string(b) != "marker" || err != nil {
		t.Errorf("the next user got %d %q (%v): a connection is out of step", resp.StatusCode, b, err)
	}
}

// lines makes a message of lines with proper ends.
func lines(l ...string) string { return strings.Join(l, "\r\n") }

// badRequests must be refused, and never reach a server.
func badRequests() map[string]string {
	const host, chunks = "Host: shop", "5\r\nhello\r\n0\r\n\r\n"
	post := func(fields ...string) string {
		return lines(append([]string{"POST /evil HTTP/1.1", host}, fields...)...) + "\r\n\r\n"
	}
	get := func(fields string) string { return "GET /evil HTTP/1.1\r\nHost: shop\r\n" + fields + "\r\n" }
	const te = "Transfer-Encoding: chunked"
	coded := func(field string) string { return post(field) + chunks }
	body := func(chunks string) string { return post(te) + chunks }
	return map[string]string{
		"length_and_chunks":        post("Content-Length: 5", te) + chunks,
		"chunks_and_length":        post(te, "Content-Length: 5") + chunks,
		"length_zero_and_chunks":   post("Content-Length: 0", te) + chunks,
		"get_length_and_chunks":    get("Content-Length: 5\r\n"+te+"\r\n") + chunks,
		"two_lengths":              post("Content-Length: 5", "Content-Length: 6") + "hello!",
		"three_lengths":            post("Content-Length: 5", "Content-Length: 5", "Content-Length: 0") + "hello",
		"length_list":              post("Content-Length: 5, 5") + "hello",
		"length_list_differs":      post("Content-Length: 5, 6") + "hello!",
		"length_plus":              post("Content-Length: +5") + "hello",
		"length_minus":             post("Content-Length: -5") + "hello",
		"length_hex":               post("Content-Length: 0x5") + "hello",
		"length_empty":             post("Content-Length:") + "hello",
		"length_space_inside":      post("Content-Length: 1 5") + "hello",
		"length_fraction":          post("Content-Length: 5.0") + "hello",
		"length_huge":              post("Content-Length: 99999999999999999999") + "hello",
		"length_quoted":            post(`Content-Length: "5"`) + "hello",
		"coding_identity":          coded("Transfer-Encoding: identity"),
		"coding_gzip":              coded("Transfer-Encoding: gzip"),
		"coding_gzip_chunked":      coded("Transfer-Encoding: gzip, chunked"),
		"coding_chunked_gzip":      coded("Transfer-Encoding: chunked, gzip"),
		"coding_chunked_twice":     coded("Transfer-Encoding: chunked, chunked"),
		"coding_two_lines":         post(te, te) + chunks,
		"coding_second_identity":   post(te, "Transfer-Encoding: identity") + chunks,
		"coding_x":                 coded("Transfer-Encoding: xchunked"),
		"coding_quoted":            coded(`Transfer-Encoding: "chunked"`),
		"coding_single_quoted":     coded("Transfer-Encoding: 'chunked'"),
		"coding_semicolon":         coded("Transfer-Encoding: chunked;q=1"),
		"coding_comma_before":      coded("Transfer-Encoding: ,chunked"),
		"coding_comma_after":       coded("Transfer-Encoding: chunked,"),
		"coding_empty":             coded("Transfer-Encoding:"),
		"coding_vertical_tab":      coded("Transfer-Encoding: \x0bchunked"),
		"coding_form_feed":         coded("Transfer-Encoding: chunked\x0c"),
		"coding_nul":               coded("Transfer-Encoding: chunked\x00"),
		"coding_carriage_return":   coded("Transfer-Encoding: \rchunked"),
		"coding_cr_behind":         coded("Transfer-Encoding: chunked\r"),
		"coding_folded":            coded("Transfer-Encoding:\r\n chunked"),
		"coding_space_before":      coded("Transfer-Encoding : chunked"),
		"coding_tab_before":        coded("Transfer-Encoding\t: chunked"),
		"coding_line_feed":         coded("X: y\nTransfer-Encoding: chunked"),
		"coding_http10":            "POST /evil HTTP/1.0\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks,
		"line_feed_first":          "GET /evil HTTP/1.1\nHost: shop\r\n\r\n",
		"line_feed_field":          "GET /evil HTTP/1.1\r\nHost: shop\nX: y\r\n\r\n",
		"line_feed_end":            "GET /evil HTTP/1.1\r\nHost: shop\r\n\n",
		"line_feed_everywhere":     "GET /evil HTTP/1.1\nHost: shop\n\n",
		"carriage_return_field":    get("X: a\rY: b\r\n"),
		"folded_space":             get("X: a\r\n b\r\n"),
		"folded_tab":               get("X: a\r\n\tb\r\n"),
		"folded_first":             "GET /evil HTTP/1.1\r\n Host: shop\r\n\r\n",
		"space_before_colon":       get("X : a\r\n"),
		"name_empty":               get(": a\r\n"),
		"name_missing":             get("nothing\r\n"),
		"name_with_space":          get("X Y: a\r\n"),
		"name_with_nul":            get("X\x00: a\r\n"),
		"name_with_8_bit":          get("X\xff: a\r\n"),
		"value_with_nul":           get("X: a\x00b\r\n"),
		"value_with_escape":        get("X: a\x1bb\r\n"),
		"value_with_delete":        get("X: a\x7fb\r\n"),
		"host_missing":             "GET /evil HTTP/1.1\r\nX: y\r\n\r\n",
		"host_twice":               get("Host: shop\r\n"),
		"host_two":                 get("Host: other\r\n"),
		"host_space":               "GET /evil HTTP/1.1\r\nHost: a b\r\n\r\n",
		"host_twice_http10":        "GET /evil HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
		"version_missing":          "GET /evil\r\nHost: shop\r\n\r\n",
		"version_2":                "GET /evil HTTP/2.0\r\nHost: shop\r\n\r\n",
		"version_1.2":              "GET /evil HTTP/1.2\r\nHost: shop\r\n\r\n",
		"version_lower":            "GET /evil http/1.1\r\nHost: shop\r\n\r\n",
		"target_with_space":        "GET /evil x HTTP/1.1\r\nHost: shop\r\n\r\n",
		"target_with_tab":          "GET\t/evil HTTP/1.1\r\nHost: shop\r\n\r\n",
		"target_with_nul":          "GET /evil\x00 HTTP/1.1\r\nHost: shop\r\n\r\n",
		"method_with_space_before": " GET /evil HTTP/1.1\r\nHost: shop\r\n\r\n",
		"method_bad":               "G(T /evil HTTP/1.1\r\nHost: shop\r\n\r\n",
		"preface":                  "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"chunk_size_bad":           body("x\r\nhello\r\n0\r\n\r\n"),
		"chunk_size_empty":         body("\r\nhello\r\n0\r\n\r\n"),
		"chunk_size_0x":            body("0x5\r\nhello\r\n0\r\n\r\n"),
		"chunk_size_minus":         body("-5\r\nhello\r\n0\r\n\r\n"),
		"chunk_size_plus":          body("+5\r\nhello\r\n0\r\n\r\n"),
		"chunk_size_space_before":  body(" 5\r\nhello\r\n0\r\n\r\n"),
		"chunk_size_space_after":   body("5 \r\nhello\r\n0\r\n\r\n"),
		"chunk_size_huge":          body("10000000000000005\r\nhello\r\n0\r\n\r\n"),
		"chunk_size_line_feed":     body("5\nhello\r\n0\r\n\r\n"),
		"chunk_ext_line_feed":      body("5;a\nhello\r\n0\r\n\r\n"),
		"chunk_ext_nul":            body("5;\x00\r\nhello\r\n0\r\n\r\n"),
		"chunk_ext_cr":             body("5;\ra\r\nhello\r\n0\r\n\r\n"),
		"chunk_data_line_feed":     body("5\r\nhello\n0\r\n\r\n"),
		"chunk_data_too_long":      body("5\r\nhello!\r\n0\r\n\r\n"),
		"chunk_data_no_end":        body("5\r\nhello0\r\n\r\n"),
		"chunk_last_line_feed":     body("5\r\nhello\r\n0\n\r\n"),
		"chunk_trailer_line_feed":  body("5\r\nhello\r\n0\r\nX: y\n\r\n"),
		"chunk_trailer_folded":     body("5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n"),
		"chunk_trailer_length":     body("5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n"),
		"chunk_trailer_coding":     body("5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"),
		"chunk_trailer_host":       body("5\r\nhello\r\n0\r\nHost: other\r\n\r\n"),
		"head_oversized":           get("X: " + strings.Repeat("a", 200<<10) + "\r\n"),
	}
}

const (
	fine     = "GET /good HTTP/1.1\r\nHost: shop\r\n\r\n"
	smuggled = "GET /smuggled HTTP/1.1\r\nHost: shop\r\n\r\n" // must never be taken for a request
)

// refusal is the status of a bad request.
func refusal(name string) int {
	if name == "head_oversized" {
		return http.StatusRequestHeaderFieldsTooLarge
	}
	return http.StatusBadRequest
}

func TestSmugglingRequestsAreRefused(t *testing.T) {
	overBoth(t, func(t *testing.T, p *pipe) {
		for name, text := range badRequests() {
			t.Run(name, func(t *testing.T) {
				p.forget(t)
				if codes, closed := p.exchange(t, 1, text+smuggled); !closed || !slices.Equal(codes, []int{refusal(name)}) {
					t.Errorf("got %v, closed: %v; want %d and the end", codes, closed, refusal(name))
				}
				if got := p.forget(t); len(got) > 0 {
					t.Errorf("a server got %q", got)
				}
				p.marker(t)
			})
		}
	})
}

// TestSmugglingOddRequestsArriveOnce sends what is unusual and has one meaning.
func TestSmugglingOddRequestsArriveOnce(t *testing.T) {
	odd := map[string]struct{ text, want string }{
		"plain":             {"GET /a HTTP/1.1\r\nHost: shop\r\n\r\n", "GET /a "},
		"chunks":            {"POST /a HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", "POST /a hello"},
		"chunk_extension":   {"POST /a HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0;c\r\n\r\n", "POST /a hello"},
		"chunk_upper_case":  {"POST /a HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: CHUNKED\r\n\r\n0005\r\nhello\r\n00\r\n\r\n", "POST /a hello"},
		"same_length_twice": {"POST /a HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "POST /a hello"},
		"trailer":           {"POST /a HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n", "POST /a hello"},
		"get_with_body":     {"GET /a HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n\r\nhello", "GET /a hello"},
		"body_of_requests":  {"POST /a HTTP/1.1\r\nHost: shop\r\nContent-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n", "POST /a GET / HTTP/1.1\r\n\r\n"},
		"length_hop_by_hop": {"POST /a HTTP/1.1\r\nHost: shop\r\nConnection: Content-Length\r\nContent-Length: 5\r\n\r\nhello", "POST /a hello"},
		"coding_look_alike": {"POST /a HTTP/1.1\r\nHost: shop\r\nTransfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello", "POST /a hello"},
		"expect":            {"POST /a HTTP/1.1\r\nHost: shop\r\nConnection: Expect\r\nContent-Length: 5\r\n\r\nhello", "POST /a hello"},
		"empty_value":       {"GET /a HTTP/1.1\r\nHost: shop\r\nX:\r\n\r\n", "GET /a "},
	}
	overBoth(t, func(t *testing.T, p *pipe) {
		for name, tc := range odd {
			t.Run(name, func(t *testing.T) {
				p.forget(t)
				codes, closed := p.exchange(t, 1, tc.text)
				if got := p.forget(t); closed || !slices.Equal(codes, []int{200}) || len(got) != 1 || got[0] != tc.want {
					t.Errorf("got %v, closed: %v; a server got %q", codes, closed, got)
				}
				// Again, behind another, and cut in two.
				half := len(tc.text) / 2
				codes, closed = p.exchange(t, 2, fine+tc.text[:half], tc.text[half:])
				if got := p.forget(t); closed || !slices.Equal(codes, []int{200, 200}) || len(got) != 2 || got[1] != tc.want {
					t.Errorf("in pieces: got %v, closed: %v; a server got %q", codes, closed, got)
				}
				p.marker(t)
			})
		}
	})
}

// TestSmugglingBehindAGoodRequest pipelines: the good request has its answer, the
// bad one is refused, and nothing behind it runs; also if the bad one comes in two
// pieces, the second of them when the good one has its answer.
func TestSmugglingBehindAGoodRequest(t *testing.T) {
	overBoth(t, func(t *testing.T, p *pipe) {
		for name, text := range badRequests() {
			half := len(text) / 2
			for how, pieces := range map[string][]string{
				"whole":  {fine + text + smuggled},
				"pieces": {fine + text[:half], text[half:] + smuggled},
			} {
				t.Run(name+"_"+how, func(t *testing.T) {
					p.forget(t)
					codes, closed := p.exchange(t, 2, pieces...)
					if !closed || !slices.Equal(codes, []int{200, refusal(name)}) {
						t.Errorf("got %v, closed: %v", codes, closed)
					}
					if got := p.forget(t); len(got) != 1 || got[0] != "GET /good " {
						t.Errorf("a server got %q", got)
					}
					p.marker(t)
				})
			}
		}
	})
}

// TestSmugglingPrematureUpgrade sends a request as if it were another protocol
// already, to a server that stays with HTTP.
func TestSmugglingPrematureUpgrade(t *testing.T) {
	const ask = "GET /good HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	overBoth(t, func(t *testing.T, p *pipe) {
		if codes, closed := p.exchange(t, 2, ask+smuggled); !closed || !slices.Equal(codes, []int{200, 400}) {
			t.Errorf("got %v, closed: %v", codes, closed)
		}
		if got := p.forget(t); len(got) != 1 || got[0] != "GET /good " {
			t.Errorf("a server got %q", got)
		}
		p.marker(t)
		if codes, closed := p.exchange(t, 1, ask); closed || !slices.Equal(codes, []int{200}) {
			t.Error("a refused upgrade with nothing behind it closes the connection", codes)
		}
	})
}

// TestSmugglingAnswers has a server answer in ways that could be read twice.
func TestSmugglingAnswers(t *testing.T) {
	p := newPipe(t, false)
	const te, status = "Transfer-Encoding: chunked", "HTTP/1.1 200 OK"
	const chunks = "5\r\nhello\r\n0\r\n\r\n"
	with := func(fields ...string) string {
		return lines(append([]string{status}, fields...)...) + "\r\n\r\n"
	}
	for name, answer := range map[string]string{
		"length_and_chunks":     with("Content-Length: 5", te) + chunks,
		"chunks_and_length":     with(te, "Content-Length: 5") + chunks,
		"two_lengths":           with("Content-Length: 5", "Content-Length: 6") + "hello!",
		"length_list":           with("Content-Length: 5, 5") + "hello",
		"length_minus":          with("Content-Length: -5") + "hello",
		"length_plus":           with("Content-Length: +5") + "hello",
		"length_empty":          with("Content-Length:") + "hello",
		"coding_gzip":           with("Transfer-Encoding: gzip, chunked") + chunks,
		"coding_identity":       with("Transfer-Encoding: identity") + "hello",
		"coding_twice":          with(te, te) + chunks,
		"coding_folded":         with("Transfer-Encoding:\r\n chunked") + chunks,
		"coding_space_before":   with("Transfer-Encoding : chunked") + chunks,
		"coding_http10":         "HTTP/1.0 200 OK\r\n" + te + "\r\n\r\n" + chunks,
		"coding_no_content":     "HTTP/1.1 204 No Content\r\n" + te + "\r\n\r\n" + chunks,
		"line_feed_status":      "HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\nhello",
		"line_feed_field":       with("Content-Length: 5\nX: y") + "hello",
		"line_feed_end":         status + "\r\nContent-Length: 5\r\n\nhello",
		"folded":                with("X: a\r\n b", "Content-Length: 5") + "hello",
		"space_before_colon":    with("X : a", "Content-Length: 5") + "hello",
		"name_empty":            with(": a", "Content-Length: 5") + "hello",
		"value_with_nul":        with("X: a\x00b", "Content-Length: 5") + "hello",
		"value_with_cr":         with("X: a\rSet-Cookie: b=c", "Content-Length: 5") + "hello",
		"status_letters":        "HTTP/1.1 2x0 OK\r\nContent-Length: 5\r\n\r\nhello",
		"status_4_digits":       "HTTP/1.1 2000 OK\r\nContent-Length: 5\r\n\r\nhello",
		"status_low":            "HTTP/1.1 099 OK\r\nContent-Length: 5\r\n\r\nhello",
		"version":               "HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"no_http":               "hello, this is no answer at all\r\n\r\n",
		"space_before":          " " + good,
		"chunk_size_bad":        with(te) + "x\r\nhello\r\n0\r\n\r\n",
		"chunk_size_line_feed":  with(te) + "5\nhello\r\n0\r\n\r\n",
		"chunk_size_space":      with(te) + "5 \r\nhello\r\n0\r\n\r\n",
		"chunk_data_too_long":   with(te) + "5\r\nhello!\r\n0\r\n\r\n",
		"chunk_data_line_feed":  with(te) + "5\r\nhello\n0\r\n\r\n",
		"chunk_ext_nul":         with(te) + "5;\x00\r\nhello\r\n0\r\n\r\n",
		"trailer_length":        with(te) + "5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
		"interim_with_chunks":   "HTTP/1.1 103 Early Hints\r\n" + te + "\r\n\r\n" + chunks + good,
		"interim_then_bad":      "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\nContent-Length: 5\r\n\r\nhello",
		"protocol_not_asked":    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + good,
		"protocol_without_name": "HTTP/1.1 101 Switching Protocols\r\n\r\n" + good,
		"head_oversized":        with("X: "+strings.Repeat("a", 2<<20), "X-Hang-Up: yes", "Content-Length: 5") + "hello",
	} {
		t.Run(name, func(t *testing.T) {
			p.mu.Lock()
			p.answer = answer
			p.mu.Unlock()
			if codes, _ := p.exchange(t, 1, "POST /evil HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\n\r\n"); len(codes) != 0 && codes[len(codes)-1] != 502 {
				t.Errorf("got %v", codes)
			}
			p.marker(t)
		})
	}
	for name, answer := range map[string]string{
		"second_answer":            good + "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
		"bytes_behind":             good + "x",
		"no_content_with_body":     "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
		"not_modified_with_body":   "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil",
		"chunks_and_second_answer": with(te) + chunks + "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
	} {
		t.Run(name, func(t *testing.T) {
			p.mu.Lock()
			p.answer = answer
			p.mu.Unlock()
			if codes, _ := p.exchange(t, 1, "GET /evil HTTP/1.1\r\nHost: shop\r\n\r\n"); len(codes) != 1 {
				t.Errorf("got %v", codes)
			}
			p.marker(t)
		})
	}
}
