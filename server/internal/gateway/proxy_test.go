// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway"
)

// echo answers with the request as the app saw it.
func echo(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "%s %s\nHost: %s\n", r.Method, r.RequestURI, r.Host)
	for name, values := range r.Header {
		for _, v := range values {
			fmt.Fprintf(w, "%s: %s\n", name, v)
		}
	}
}

func field(body, name string) string {
	var all []string
	for line := range strings.SplitSeq(body, "\n") {
		if v, ok := strings.CutPrefix(line, name+": "); ok {
			all = append(all, v)
		}
	}
	return strings.Join(all, "|")
}

// one runs a test with one app server and this handler.
func one(t *testing.T, h http.HandlerFunc, test func(*world)) {
	t.Helper()
	run(t, 1, func(_ *gateway.Config, apps []*app) { apps[0].handler = h }, test)
}

// either is one, with a server that speaks HTTP/1.1, and with one that speaks HTTP/2.
func either(t *testing.T, h http.HandlerFunc, test func(*world)) {
	t.Helper()
	t.Run("http1", func(t *testing.T) { one(t, h, test) })
	t.Run("h2c", func(t *testing.T) {
		run(t, 1, func(c *gateway.Config, apps []*app) { h2c(c, apps); apps[0].handler = h }, test)
	})
}

func TestWhatTheAppSees(t *testing.T) {
	one(t, echo, func(w *world) {
		a := w.get("/a%2Fb/?q=%zz&x;y",
			"X-Forwarded-For", "6.6.6.6", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "evil.example", "X_Forwarded_For", "6.6.6.6",
			"Forwarded", "for=6.6.6.6", "X-Real-Ip", "6.6.6.6", "X-Forwarded-User", "root",
			"Belay-Attempt", "forged;1;99999999999999", "Belay-Probe", "forged", "Belay_Attempt", "forged",
			"Connection", "X-Hop", "X-Hop", "1", "Keep-Alive", "1", "Te", "trailers", "Accept", "*/*")
		for name, want := range map[string]string{
			"Host": "gateway:80", "X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "gateway:80",
			"X_forwarded_for": "", "Forwarded": "", "X-Real-Ip": "", "X-Forwarded-User": "", "Belay-Probe": "", "Belay_attempt": "",
			"X-Hop": "", "Keep-Alive": "", "Te": "", "Connection": "", "Accept": "*/*",
		} {
			if got := field(a.body, name); got != want {
				w.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if !strings.HasPrefix(a.body, "GET /a%2Fb/?q=%zz&x;y\n") {
			w.Error("target changed:", a.body)
		}
		if at := field(a.body, "Belay-Attempt"); strings.Contains(at, "forged") || strings.Count(at, ";") != 2 {
			w.Error("attempt:", at)
		}
	})
}

func TestAttemptOnlyForServersWithTheLibrary(t *testing.T) {
	run(t, 1, func(_ *gateway.Config, apps []*app) { apps[0].handler, apps[0].library = echo, false }, func(w *world) {
		if at := field(w.get("/", "Belay-Attempt", "forged;1;1").body, "Belay-Attempt"); at != "" {
			w.Error(at)
		}
	})
}

func TestTrustedProxyIsBelieved(t *testing.T) {
	run(t, 1, func(c *gateway.Config, apps []*app) {
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		apps[0].handler = echo
	}, func(w *world) {
		a := w.get("/", "X-Forwarded-For", "198.51.100.7", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "shop.example")
		if field(a.body, "X-Forwarded-For") != "198.51.100.7, 192.0.2.1" || field(a.body, "X-Forwarded-Proto") != "https" || field(a.body, "X-Forwarded-Host") != "shop.example" {
			w.Error(a.body)
		}
		if w.lastLog()["client"] != "198.51.100.7" {
			w.Error(w.lastLog())
		}
	})
}

func TestWhatTheClientSees(t *testing.T) {
	one(t, func(rw http.ResponseWriter, _ *http.Request) {
		h := rw.Header()
		h.Set("Belay-Attempt", "x")
		h.Set("Belay-Probe", "x")
		h.Set("Connection", "X-Hop")
		h.Set("X-Hop", "1")
		h.Set("Keep-Alive", "timeout=5")
		h["Content-Type"] = nil
		h.Add("Set-Cookie", "belay_server=mine")
		h.Add("Set-Cookie", "id=1")
		rw.WriteHeader(418)
		io.WriteString(rw, "<html>teapot")
	}, func(w *world) {
		a := w.get("/")
		a.want(w, 418, "<html>teapot", 0)
		for _, name := range []string{"Belay-Attempt", "Belay-Probe", "X-Hop", "Keep-Alive", "Content-Type"} {
			if v := a.header.Get(name); v != "" {
				w.Errorf("%s: %s", name, v)
			}
		}
		if c := a.header.Values("Set-Cookie"); len(c) != 2 || c[0] != "id=1" || cookieOf(a) == "belay_server=mine" {
			w.Error(c)
		}
	})
}

func TestAccessLog(t *testing.T) {
	one(t, nil, func(w *world) {
		w.do("POST", "/p?secret=1", "x", "Cookie", "id=secret")
		l := w.lastLog()
		for k, want := range map[string]any{
			"method": "POST", "path": "/p", "status": 200.0, "bytes": 4.0, "server": "app1", "attempts": 1.0,
			"outcome": "answered", "client": "192.0.2.1", "msg": "request",
		} {
			if l[k] != want {
				w.Errorf("%s: %v, want %v", k, l[k], want)
			}
		}
		if strings.Contains(w.log.String(), "secret") {
			w.Error("the log tells a secret:", w.log.String())
		}
	})
}

func TestHeadAndBodylessAnswers(t *testing.T) {
	one(t, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Etag", `"x"`)
		switch r.URL.Path {
		case "/204":
			rw.WriteHeader(204)
		case "/304":
			rw.WriteHeader(304)
		default:
			rw.Header().Set("Content-Length", "5")
			io.WriteString(rw, "hello")
		}
	}, func(w *world) {
		for range 2 { // the second time over the same connection: nothing was left over
			a := w.do("HEAD", "/", "")
			if a.status != 200 || a.body != "" || a.header.Get("Content-Length") != "5" {
				w.Error(a)
			}
			w.get("/204").want(w, 204, "", 0)
			if a := w.get("/304", "If-None-Match", `"x"`); a.status != 304 || a.header.Get("Etag") != `"x"` {
				w.Error(a)
			}
			w.get("/").want(w, 200, "hello", 0)
		}
		w.apps[0].ln.mu.Lock()
		defer w.apps[0].ln.mu.Unlock()
		if n := len(w.apps[0].ln.conns); n != 3 { // the check, the question, and one for all of the above
			w.Errorf("%d connections", n)
		}
	})
}

func TestInterimAnswers(t *testing.T) {
	either(t, func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Link", "</a.css>; rel=preload")
		rw.WriteHeader(103)
		rw.Header().Del("Link")
		io.WriteString(rw, "final")
	}, func(w *world) {
		var got []string
		ctx := httptrace.WithClientTrace(w.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				got = append(got, fmt.Sprint(code, h.Get("Link")))
				return nil
			},
		})
		r, _ := http.NewRequestWithContext(ctx, "GET", "http://gateway:80/", nil)
		resp, err := w.client.Do(r)
		if err != nil {
			w.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(body) != "final" || resp.Header.Get("Link") != "" || !slices.Equal(got, []string{"103</a.css>; rel=preload"}) {
			w.Error(string(body), resp.Header, got)
		}
	})
}

func TestTrailers(t *testing.T) {
	one(t, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Trailer", "X-Sum")
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(rw, "%s %s", body, r.Trailer.Get("X-Up"))
		rw.(http.Flusher).Flush()
		rw.Header().Set("X-Sum", "42")
	}, func(w *world) {
		r, _ := http.NewRequestWithContext(w.Context(), "POST", "http://gateway:80/", io.MultiReader(strings.NewReader("up")))
		r.Trailer = http.Header{"X-Up": {"17"}}
		resp, err := w.client.Do(r)
		if err != nil {
			w.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(body) != "up 17" || resp.Trailer.Get("X-Sum") != "42" {
			w.Error(string(body), resp.Trailer)
		}
	})
}

func TestEventsArriveAsTheyAreSent(t *testing.T) {
	one(t, func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/event-stream")
		rw.(http.Flusher).Flush() // the head alone
		for i := range 3 {
			time.Sleep(10 * time.Second) // far longer than patience: a living stream may be quiet
			fmt.Fprintf(rw, "data: %d\n\n", i)
			rw.(http.Flusher).Flush()
		}
	}, func(w *world) {
		start := time.Now()
		r, _ := http.NewRequestWithContext(w.Context(), "GET", "http://gateway:80/", nil)
		resp, err := w.client.Do(r)
		if err != nil || time.Since(start) != 0 {
			w.Fatal(err, time.Since(start))
		}
		defer resp.Body.Close()
		sc := bufio.NewScanner(resp.Body)
		for i := 0; sc.Scan(); {
			if sc.Text() == "" {
				continue
			}
			if want := fmt.Sprint("data: ", i); sc.Text() != want || time.Since(start) != time.Duration(i+1)*10*time.Second {
				w.Errorf("%q after %v", sc.Text(), time.Since(start))
			}
			i++
		}
	})
}

// A body that is quiet for long is asked about less and less often.
func TestPausesBetweenQuestionsGrow(t *testing.T) {
	one(t, func(rw http.ResponseWriter, _ *http.Request) {
		rw.(http.Flusher).Flush()
		time.Sleep(20 * time.Second)
	}, func(w *world) {
		a := w.apps[0]
		start := time.Now()
		w.get("/").want(w, 200, "", 20*time.Second)
		a.mu.Lock()
		defer a.mu.Unlock()
		var got []time.Duration
		for _, at := range a.asked {
			if since := at.Sub(start); since > 0 { // before, it found out that there is the library
				got = append(got, since)
			}
		}
		var want []time.Duration
		for at, pause := time.Duration(0), 300*time.Millisecond; at+pause < 20*time.Second; pause = min(2*pause, 3*time.Second) {
			at += pause
			want = append(want, at)
		}
		if got = slices.Compact(got); !slices.Equal(got, want) { // asked, and then renewed
			w.Errorf("asked after %v, want %v", got, want)
		}
	})
}

// After a long pause a body that goes on, and then stops, is cut off as soon as one
// that never paused.
func TestPausesAreShortAgainAfterMoreOfTheBody(t *testing.T) {
	stop := make(chan *world, 1)
	one(t, func(rw http.ResponseWriter, _ *http.Request) {
		rw.(http.Flusher).Flush()
		time.Sleep(10 * time.Second)
		io.WriteString(rw, "more")
		rw.(http.Flusher).Flush()
		w := <-stop
		w.apps[0].freeze()
		w.apps[0].gate()
	}, func(w *world) {
		stop <- w
		a := w.get("/")
		// Seen after patience at the latest, asked patience after it came, no answer within probe.
		if a.err == nil || a.took < 10*time.Second || a.took > 10*time.Second+800*time.Millisecond {
			w.Error(a.err, a.took)
		}
		if w.lastLog()["outcome"] != "body_silent" {
			w.Error(w.lastLog())
		}
	})
}

func TestBodyThatStopsIsCutOff(t *testing.T) {
	stop := make(chan *world, 1)
	either(t, func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Length", "10")
		io.WriteString(rw, "hello")
		rw.(http.Flusher).Flush()
		w := <-stop
		w.apps[0].freeze()
		w.apps[0].gate()
	}, func(w *world) {
		stop <- w
		a := w.get("/")
		// Asked after patience, no answer within probe.
		if a.err == nil || a.took != 500*time.Millisecond {
			w.Error(a.err, a.took)
		}
		if w.state("app1") != "down" || w.lastLog()["outcome"] != "body_silent" {
			w.Error(w.state("app1"), w.lastLog())
		}
	})
}

// A body that is here as a whole goes to the client with its head, in one write.
func TestWholeAnswersAreWrittenAtOnce(t *testing.T) {
	run(t, 1, func(_ *gateway.Config, apps []*app) {
		apps[0].handler = func(w http.ResponseWriter, r *http.Request) {
			n, _ := strconv.Atoi(r.URL.Path[1:])
			c, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				panic(err)
			}
			defer c.Close()
			io.WriteString(c, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", n, strings.Repeat("x", n)))
		}
	}, func(w *world) {
		for _, n := range []int{0, 1, 2000, 4000, 5000, 10000, 16000} {
			c, br := w.raw(fmt.Sprintf("GET /%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", n))
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(n, err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || len(body) != n {
				t.Errorf("%d bytes of %d, %v", len(body), n, err)
			}
			if writes := c.(*memConn).in.writes; writes != 1 {
				t.Errorf("a body of %d bytes took %d writes", n, writes)
			}
			c.Close()
		}
	})
}

func TestBrokenBodyIsNotPassedOffAsWhole(t *testing.T) {
	one(t, func(rw http.ResponseWriter, _ *http.Request) {
		io.WriteString(rw, "hello")
		rw.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}, func(w *world) {
		if a := w.get("/"); a.err == nil {
			w.Error("a cut answer looks complete:", a)
		}
		if w.lastLog()["outcome"] != "body_broken" {
			w.Error(w.lastLog())
		}
	})
}

func TestBigBodies(t *testing.T) {
	one(t, func(rw http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(rw).EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		io.Copy(rw, r.Body) // while it still comes
	}, func(w *world) {
		for name, size := range map[string]int{"small": 10, "at_the_limit": 64 << 10, "over_it": 64<<10 + 1, "big": 3 << 20} {
			raw := make([]byte, size)
			rand.Read(raw)
			body := string(raw)
			for _, chunked := range []bool{false, true} {
				r, _ := http.NewRequestWithContext(w.Context(), "POST", "http://gateway:80/", strings.NewReader(body))
				if chunked {
					r.ContentLength = -1
				}
				resp, err := w.client.Do(r)
				if err != nil {
					w.Fatal(name, err)
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if string(got) != body {
					w.Errorf("%s (chunked %v): got %d of %d bytes, %v", name, chunked, len(got), size, err)
				}
			}
		}
	})
}

func TestAnswerBeforeTheEndOfTheUpload(t *testing.T) {
	one(t, func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Connection", "close")
		http.Error(rw, "too large", http.StatusRequestEntityTooLarge)
	}, func(w *world) {
		c, br := w.raw("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\nabc")
		defer c.Close()
		resp, err := http.ReadResponse(br, nil)
		if err != nil || resp.StatusCode != 413 {
			w.Fatal(resp, err)
		}
	})
}

func TestUploadCutOffByTheClient(t *testing.T) {
	one(t, func(rw http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			t.Error("half a body arrived as a whole one")
		}
		panic(http.ErrAbortHandler)
	}, func(w *world) {
		for _, head := range []string{"Content-Length: 10000000", "Transfer-Encoding: chunked"} {
			c, _ := w.raw("POST / HTTP/1.1\r\nHost: x\r\n" + head + "\r\n\r\n" + strings.Repeat("1\r\na\r\n", 20000))
			synctest.Wait()
			c.Close()
			synctest.Wait()
		}
	})
}

func TestClientGone(t *testing.T) {
	var gone atomic.Pointer[time.Time] // a channel would be none of the bubble's
	either(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			return
		}
		<-r.Context().Done()
		now := time.Now()
		gone.Store(&now)
		panic(http.ErrAbortHandler)
	}, func(w *world) {
		c, _ := w.raw("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
		time.Sleep(time.Second)
		left := time.Now()
		c.Close()
		time.Sleep(time.Minute)
		if at := gone.Swap(nil); at == nil || *at != left {
			w.Errorf("it left at %v, and the app heard of it at %v", left, at)
		}
		if w.lastLog()["outcome"] != "client_gone" {
			w.Error(w.lastLog())
		}
		w.get("/").want(w, 200, "", 0)
	})
}

func TestUpgrade(t *testing.T) {
	one(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Connection") != "Upgrade" || r.Header.Get("Upgrade") != "websocket" {
			http.Error(rw, "no upgrade", 400)
			return
		}
		c, brw, err := rw.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-App: 1\r\n\r\nwelcome\n")
		for {
			line, err := brw.ReadString('\n')
			if err != nil {
				return
			}
			io.WriteString(c, "echo "+line)
		}
	}, func(w *world) {
		open := func() (io.WriteCloser, *bufio.Reader) {
			c, br := w.raw("GET /ws HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\nearly\n")
			resp, err := http.ReadResponse(br, nil)
			if err != nil || resp.StatusCode != 101 || resp.Header.Get("X-App") != "1" || cookieOf(answer{header: resp.Header}) == "" {
				w.Fatal(resp, err)
			}
			for _, want := range []string{"welcome\n", "echo early\n"} {
				if line, _ := br.ReadString('\n'); line != want {
					w.Errorf("%q, want %q", line, want)
				}
			}
			return c, br
		}
		c, br := open()
		time.Sleep(time.Hour) // quiet, but not forgotten
		io.WriteString(c, "hi\n")
		if line, _ := br.ReadString('\n'); line != "echo hi\n" {
			w.Error(line)
		}
		if n := w.g.Servers()[0].InFlight; n != 1 {
			w.Error("in flight:", n)
		}
		c.Close()
		synctest.Wait()
		if n := w.g.Servers()[0].InFlight; n != 0 {
			w.Error("closed, but in flight:", n)
		}
		// A graceful stop closes those that are left, and waits for their lines in the log.
		_, br = open()
		w.slowLog.Store(int64(time.Minute))
		w.stop()
		<-w.done
		if n := strings.Count(w.logged(), `"outcome":"tunnel"`); n != 2 {
			w.Errorf("%d tunnels in the log of a gateway that has stopped, want 2", n)
		}
		if _, err := br.ReadByte(); err == nil {
			w.Error("still open after the stop")
		}
	})
}

func TestNoTunnelWithoutBothSidesAgreeing(t *testing.T) {
	one(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" && r.URL.Path == "/h2c" {
			t.Error("h2c was passed on")
		}
		c, _, err := rw.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n")
		c.Close()
	}, func(w *world) {
		w.get("/ws", "Connection", "Upgrade", "Upgrade", "websocket").want(w, 502, "not asked for", 0)
		w.get("/h2c", "Connection", "Upgrade", "Upgrade", "h2c").want(w, 502, "not asked for", 0)
		w.get("/").want(w, 502, "not asked for", 0)
	})
}

func TestMalformedAnswer(t *testing.T) {
	for name, text := range map[string]string{
		"not_http":         "hello\r\n\r\n",
		"bad_length":       "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
		"two_lengths":      "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"head_without_end": "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 2<<20),
		"endless_interim":  strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 100),
	} {
		t.Run(name, func(t *testing.T) {
			one(t, func(rw http.ResponseWriter, _ *http.Request) {
				c, _, err := rw.(http.Hijacker).Hijack()
				if err != nil {
					return
				}
				io.WriteString(c, text)
				c.Close()
			}, func(w *world) {
				if a := w.do("POST", "/", ""); a.status != 502 || a.header.Get("Belay-Outcome") != "unknown" {
					w.Error(a)
				}
			})
		})
	}
}

func TestOnlyPathsAreForwarded(t *testing.T) {
	one(t, echo, func(w *world) {
		for line, want := range map[string]int{
			"CONNECT x:443 HTTP/1.1":         501,
			"PRI * HTTP/2.0":                 400,
			"OPTIONS * HTTP/1.1":             200,
			"GET http://x/path?q HTTP/1.1":   200,
			"GET /%2e%2e/..//\\?#x HTTP/1.1": 200,
		} {
			c, br := w.raw(line + "\r\nHost: x\r\n\r\n")
			resp, err := http.ReadResponse(br, nil)
			if err != nil || resp.StatusCode != want {
				w.Error(line, resp, err)
			} else if strings.Contains(line, "http://") {
				if body, _ := io.ReadAll(resp.Body); !strings.HasPrefix(string(body), "GET /path?q\nHost: x\n") {
					w.Errorf("%s became %s", line, body)
				}
			}
			c.Close()
		}
	})
}

func TestGracefulStop(t *testing.T) {
	one(t, nil, func(w *world) {
		start := time.Now()
		c, br := w.raw("GET /?work=5s HTTP/1.1\r\nHost: x\r\n\r\n")
		defer c.Close()
		time.Sleep(time.Second)
		w.stop()
		synctest.Wait()
		if _, err := w.net.dial(w.Context(), "tcp", "gateway:80"); err == nil {
			w.Error("still accepts")
		}
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			w.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		if string(body) != "app1" || !resp.Close || time.Since(start) != 5*time.Second {
			w.Error(string(body), resp.Header, time.Since(start))
		}
		<-w.done
	})
}

func TestGraceEnds(t *testing.T) {
	one(t, nil, func(w *world) {
		c, br := w.raw("GET /?work=25s HTTP/1.1\r\nHost: x\r\n\r\n")
		defer c.Close()
		synctest.Wait()
		start := time.Now()
		w.stop()
		<-w.done
		if took := time.Since(start); took != 10*time.Second {
			w.Error("stopped after", took)
		}
		if _, err := br.ReadByte(); err == nil {
			w.Error("answered after the end")
		}
	})
}
