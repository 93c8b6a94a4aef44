// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package edge_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway/edge"
)

// serve runs a server on a loopback socket until the test ends.
func serve(t *testing.T, o edge.Options) (*edge.Server, string) {
	t.Helper()
	ln, err := edge.Listen(t.Context(), "listeners[0].address", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, o, ln), ln.Addr().String()
}

func serveOn(t *testing.T, o edge.Options, ln net.Listener) *edge.Server {
	t.Helper()
	o.Logger = slog.New(slog.DiscardHandler)
	if o.Handler == nil {
		o.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s from %s", r.Proto, r.RemoteAddr)
		})
	}
	s := edge.New(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

// ask writes text to a connection and returns what comes back.
func ask(t *testing.T, address, text string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, text)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return fmt.Sprint(resp.StatusCode, " ", string(b))
}

func TestProxyHeaderIsReadFromProxiesAlone(t *testing.T) {
	const head = "PROXY TCP4 198.51.100.7 192.0.2.1 4711 80\r\n"
	const get = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	_, trusted := serve(t, edge.Options{Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	if got := ask(t, trusted, head+get); got != "200 HTTP/1.1 from 198.51.100.7:4711" {
		t.Error(got)
	}
	if got := ask(t, trusted, get); strings.HasPrefix(got, "200") {
		t.Error("a proxy that does not say who its client is:", got)
	}
	_, stranger := serve(t, edge.Options{Proxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	if got := ask(t, stranger, head+get); !strings.HasPrefix(got, "400") {
		t.Error("a stranger's header was believed:", got)
	}
	if got := ask(t, stranger, get); !strings.HasPrefix(got, "200 HTTP/1.1 from 127.0.0.1:") {
		t.Error(got)
	}
}

func TestH2C(t *testing.T) {
	get := func(address string) (string, error) {
		tr := &http.Transport{Protocols: new(http.Protocols)}
		tr.Protocols.SetUnencryptedHTTP2(true)
		defer tr.CloseIdleConnections()
		resp, err := (&http.Client{Transport: tr}).Get("http://" + address)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}
	_, on := serve(t, edge.Options{H2C: true})
	if got, err := get(on); err != nil || !strings.HasPrefix(got, "HTTP/2.0") {
		t.Error(got, err)
	}
	if got := ask(t, on, "GET / HTTP/1.0\r\n\r\n"); !strings.HasPrefix(got, "200 HTTP/1.0") {
		t.Error(got)
	}
	_, off := serve(t, edge.Options{})
	if got, err := get(off); err == nil {
		t.Error("HTTP/2 where it is off:", got)
	}
}

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, a.key.Public(), a.key)
	if err == nil {
		a.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) issue(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// shake returns the name in the certificate that a client gets, and the protocol.
func shake(address string, c *tls.Config) (string, string, error) {
	conn, err := tls.Dial("tcp", address, c)
	if err != nil {
		return "", "", err
	}
	defer conn.Close()
	// A server that refuses the client's certificate says so after the handshake.
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return "", "", err
	}
	if c.NextProtos == nil {
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			return "", "", err
		}
	}
	state := conn.ConnectionState()
	return state.PeerCertificates[0].DNSNames[0], state.NegotiatedProtocol, nil
}

func TestTLS(t *testing.T) {
	ca := newAuthority(t)
	certs := []tls.Certificate{ca.issue(t, "a.example"), ca.issue(t, "b.example")}
	s, address := serve(t, edge.Options{TLS: edge.Secure(certs, 0, edge.ClientCertsNone, nil)})
	roots := ca.pool()
	for name, want := range map[string]string{"a.example": "a.example", "b.example": "b.example"} {
		if got, _, err := shake(address, &tls.Config{RootCAs: roots, ServerName: name}); err != nil || got != want {
			t.Errorf("%s got the certificate of %s (%v)", name, got, err)
		}
	}
	if got, _, err := shake(address, &tls.Config{InsecureSkipVerify: true, ServerName: "c.example"}); err != nil || got != "a.example" {
		t.Error("who asks for an unknown name gets the first certificate:", got, err)
	}
	if _, proto, err := shake(address, &tls.Config{RootCAs: roots, ServerName: "a.example", NextProtos: []string{"h2"}}); err != nil || proto != "h2" {
		t.Error(proto, err)
	}
	old := &tls.Config{RootCAs: roots, ServerName: "a.example", MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	if _, _, err := shake(address, old); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
	s.SetTLS(edge.Secure(certs[1:], tls.VersionTLS13, edge.ClientCertsNone, nil))
	if got, _, err := shake(address, &tls.Config{RootCAs: roots, ServerName: "b.example"}); err != nil || got != "b.example" {
		t.Error(got, err)
	}
	if _, _, err := shake(address, &tls.Config{RootCAs: roots, ServerName: "b.example", MaxVersion: tls.VersionTLS12}); err == nil {
		t.Error("TLS 1.2 was accepted after the minimum was raised")
	}
	if got := ask(t, address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); !strings.HasPrefix(got, "400") {
		t.Error("plain HTTP on a TLS port:", got)
	}
}

func TestClientCertificates(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	certs := []tls.Certificate{ca.issue(t, "a.example")}
	good, bad := ca.issue(t, "user"), stranger.issue(t, "user")
	for _, tt := range []struct {
		name  string
		ask   edge.ClientCerts
		shown *tls.Certificate
		ok    bool
	}{
		{"none_is_asked_for", edge.ClientCertsNone, nil, true},
		{"optional_and_none", edge.ClientCertsOptional, nil, true},
		{"optional_and_good", edge.ClientCertsOptional, &good, true},
		{"optional_and_bad", edge.ClientCertsOptional, &bad, false},
		{"required_and_none", edge.ClientCertsRequired, nil, false},
		{"required_and_good", edge.ClientCertsRequired, &good, true},
		{"required_and_bad", edge.ClientCertsRequired, &bad, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, address := serve(t, edge.Options{TLS: edge.Secure(certs, 0, tt.ask, ca.pool())})
			c := &tls.Config{RootCAs: ca.pool(), ServerName: "a.example"}
			if tt.shown != nil {
				c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return tt.shown, nil }
			}
			if _, _, err := shake(address, c); (err == nil) != tt.ok {
				t.Error(err)
			}
		})
	}
}

func TestUnixSocket(t *testing.T) {
	address := "unix:" + filepath.Join(t.TempDir(), "s")
	ln, err := edge.Listen(t.Context(), "listeners[0].address", address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := edge.Listen(t.Context(), "listeners[1].address", address); err == nil || !strings.Contains(err.Error(), "in use") || !strings.Contains(err.Error(), "listeners[1].address") {
		t.Error(err)
	}
	ln.Close() // as a process that is killed: the file is left
	if ln, err = edge.Listen(t.Context(), "listeners[0].address", address); err != nil {
		t.Fatal("the file of a dead process is in the way: ", err)
	}
	serveOn(t, edge.Options{}, ln)
	c, err := net.Dial("unix", strings.TrimPrefix(address, "unix:"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 200 {
		t.Error(resp, err)
	}
}

// The third of two connections waits until one of them is closed.
func TestMaxConns(t *testing.T) {
	_, address := serve(t, edge.Options{MaxConns: 2})
	open := func() (net.Conn, *bufio.Reader) {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		return c, bufio.NewReader(c)
	}
	answered := func(br *bufio.Reader) error {
		resp, err := http.ReadResponse(br, nil)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
		}
		return err
	}
	first, a := open()
	_, b := open()
	if err := answered(a); err != nil {
		t.Fatal(err)
	}
	if err := answered(b); err != nil {
		t.Fatal(err)
	}
	third, c := open()
	third.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if err := answered(c); err == nil {
		t.Fatal("a third connection was served beside two")
	}
	third.SetReadDeadline(time.Now().Add(10 * time.Second))
	first.Close()
	if err := answered(c); err != nil {
		t.Error("the third connection, when the first has left:", err)
	}
}

func TestSystemdNames(t *testing.T) {
	env := map[string]string{"LISTEN_PID": "7", "LISTEN_FDS": "3", "LISTEN_FDNAMES": "web::admin"}
	get := func(k string) string { return env[k] }
	names, err := edge.SystemdNames(get, 7)
	if err != nil || strings.Join(names, " ") != "systemd:web systemd:unknown systemd:admin" {
		t.Error(names, err)
	}
	if names, err := edge.SystemdNames(get, 8); err != nil || names != nil {
		t.Error("took the sockets of another process:", names, err)
	}
	env["LISTEN_FDS"] = "many"
	if _, err := edge.SystemdNames(get, 7); err == nil {
		t.Error("no error")
	}
}

// Handing a socket to a process must not make it blocking for us.
func TestFileLeavesTheListenerAsItWas(t *testing.T) {
	ln, err := edge.Listen(t.Context(), "listeners[0].address", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := edge.File(ln)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_ = f.Fd() // as os/exec does
	again, err := edge.Dup(ln)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []net.Listener{ln, again} {
		done := make(chan error, 1)
		go func() {
			_, err := l.Accept()
			done <- err
		}()
		// Once somebody waits in Accept, closing must wake him up.
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		go func() {
			_, err := l.Accept()
			done <- err
		}()
		time.AfterFunc(10*time.Millisecond, func() { l.Close() })
		select {
		case err := <-done:
			if err == nil {
				t.Error("accepted a connection that nobody opened")
			}
		case <-time.After(30 * time.Second):
			t.Fatal("Close does not wake up Accept: the socket is blocking")
		}
	}
}

// A connection that counts is still one that the kernel can copy into.
func TestCountedConnectionsTakeOthersWhole(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conns := edge.Limit(ln, 2)
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := conns.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	to, ok := s.(io.ReaderFrom)
	if !ok {
		t.Fatalf("%T hides what its socket can do", s)
	}
	if n, err := to.ReadFrom(strings.NewReader("hello")); n != 5 || err != nil {
		t.Error(n, err)
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "hello" {
		t.Errorf("%q %v", b, err)
	}
}
