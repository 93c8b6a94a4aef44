// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-ha/belay/server"
)

// logLines keeps a log, and says when there is more of it.
type logLines struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
	return l.text.Write(p)
}

func (l *logLines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

// site is a server that runs on a file.
type site struct {
	*testing.T
	*server.Server
	dir  string
	app  string
	logs *logLines
}

// run serves what a configuration says; APP in it is the address of an app server.
func run(t *testing.T, text string) *site {
	t.Helper()
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }))
	t.Cleanup(app.Close)
	s := &site{T: t, dir: t.TempDir(), app: app.Listener.Addr().String(), logs: &logLines{more: make(chan struct{}, 1)}}
	s.write("belay.yaml", text)
	cfg, err := server.Load(s.path("belay.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s.Server, err = server.New(cfg, &server.Options{File: s.path("belay.yaml"), Logger: slog.New(slog.NewTextHandler(s.logs, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	s.await("gateway listens")
	return s
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

// write replaces a file at once, as deployments do.
func (s *site) write(name, text string) {
	s.Helper()
	text = strings.ReplaceAll(text, "APP", s.app)
	if err := os.WriteFile(s.path(name+".new"), []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
	if err := os.Rename(s.path(name+".new"), s.path(name)); err != nil {
		s.Fatal(err)
	}
}

func (s *site) await(text string) {
	s.Helper()
	for limit := time.After(time.Minute); s.logs.count(text) == 0; {
		select {
		case <-s.logs.more:
		case <-limit:
			s.Fatalf("%q is not in the log", text)
		}
	}
}

// get asks over a new connection.
func get(address string) (string, error) {
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: tr}).Get("http://" + address)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

const pools = "\naccess_log: off\npools: {shop: {servers: [{name: a, address: \"APP\"}]}}\n"

func TestReloadOpensAndClosesListeners(t *testing.T) {
	first, second := freePort(t), freePort(t)
	s := run(t, fmt.Sprintf("listeners: [{address: %q}]\nwatch: false%s", first, pools))
	s.write("belay.yaml", fmt.Sprintf("listeners: [{address: %q}, {address: %q}]\nwatch: false%s", first, second, pools))
	if err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{first, second} {
		if got, err := get(address); got != "hello" {
			t.Error(address, got, err)
		}
	}
	s.write("belay.yaml", fmt.Sprintf("listeners: [{address: %q}]\nwatch: false%s", second, pools))
	if err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.await("no longer listens")
	if got, err := get(second); got != "hello" {
		t.Error(got, err)
	}
	for limit := time.Now().Add(30 * time.Second); ; {
		if _, err := get(first); err != nil {
			break
		}
		if time.Now().After(limit) {
			t.Fatal("the listener that was removed is still served")
		}
	}
	if got := string(s.Effective()); strings.Contains(got, first) || !strings.Contains(got, second) {
		t.Error(got)
	}
}

// A configuration that cannot be had never replaces the running one, and says
// why in one line.
func TestReloadThatFailsKeepsTheRunningConfiguration(t *testing.T) {
	front := freePort(t)
	good := fmt.Sprintf("listeners: [{address: %q}]\nwatch: false%s", front, pools)
	s := run(t, good)
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for name, tc := range map[string]struct{ text, want string }{
		"mistakes":    {"colour: blue\n" + strings.Replace(good, "pools", "pool", 1), "belay.yaml:1:1: unknown key \"colour\""},
		"not_yaml":    {"listeners: [", "belay.yaml:"},
		"port_in_use": {strings.Replace(good, "[{", fmt.Sprintf("[{address: %q}, {", busy.Addr()), 1), "port is in use; stop the process that has it, or change listeners[0].address"},
		"no_certificate": {
			strings.Replace(good, "}]", ", tls: {certificates: [{cert_file: none.pem, key_file: none.key}]}}]", 1),
			"none.pem; put it there",
		},
	} {
		s.write("belay.yaml", tc.text)
		err := s.Reload(t.Context())
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasSuffix(err.Error(), "the running configuration stays") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := get(front); got != "hello" {
			t.Error(name, got, err)
		}
	}
	if err := os.Remove(s.path("belay.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
}

func TestReloadNeedsARunningServer(t *testing.T) {
	s, err := server.New(load(t, "listeners: [{address: \"127.0.0.1:1\"}]\npools: {a: {servers: [{name: a, address: \"127.0.0.1:2\"}]}}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{s.Reload(t.Context()), s.Upgrade(t.Context()), s.ReopenLogs()} {
		if err == nil {
			t.Error("no error")
		}
	}
}

// selfSigned writes a certificate for a name.
func (s *site) selfSigned(name string) {
	s.Helper()
	cert, key := selfSigned(s.T, name)
	s.write("site.key", key)
	s.write("site.pem", cert)
}

func selfSigned(t *testing.T, name string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs}))
}

func served(t *testing.T, address string) string {
	t.Helper()
	c, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].DNSNames[0]
}

// A certificate that is replaced is served from then on, without a signal.
func TestCertificatesAreReadAgainWhenTheyChange(t *testing.T) {
	front, plain := freePort(t), freePort(t)
	s := run(t, fmt.Sprintf("listeners: [{address: %q}]%s", plain, pools))
	s.selfSigned("old.example")
	s.write("belay.yaml", fmt.Sprintf("listeners: [{address: %q, tls: {certificates: [{cert_file: site.pem, key_file: site.key}]}}]%s", front, pools))
	s.await("configuration reloaded") // the watch saw the file
	if got := served(t, front); got != "old.example" {
		t.Error(got)
	}
	s.selfSigned("new.example")
	for limit := time.Now().Add(30 * time.Second); served(t, front) != "new.example"; {
		if time.Now().After(limit) {
			t.Fatal("the old certificate is still served")
		}
	}
}

func TestAccessLogIsReopened(t *testing.T) {
	front, logFile := freePort(t), filepath.Join(t.TempDir(), "access.log")
	s := run(t, strings.Replace(fmt.Sprintf("listeners: [{address: %q}]\nwatch: false%s", front, pools), "off", logFile, 1))
	lines := func(file string) int {
		b, _ := os.ReadFile(file)
		return bytes.Count(b, []byte("\n"))
	}
	for i, reopen := range []func() error{s.ReopenLogs, func() error { return s.Reload(t.Context()) }} {
		if _, err := get(front); err != nil {
			t.Fatal(err)
		}
		moved := fmt.Sprint(logFile, i)
		if err := os.Rename(logFile, moved); err != nil {
			t.Fatal(err)
		}
		if err := reopen(); err != nil {
			t.Fatal(err)
		}
		if _, err := get(front); err != nil {
			t.Fatal(err)
		}
		for limit := time.Now().Add(30 * time.Second); lines(logFile) == 0; { // the line follows the answer
			if time.Now().After(limit) {
				t.Fatal("nothing is written where the log now is")
			}
		}
	}
}

// The files for TLS to servers may be replaced while the gateway runs: what it
// trusts, and who it is. The servers stay what they were.
func TestFilesForTLSToServersAreReadAgainWhenTheyChange(t *testing.T) {
	for _, proto := range []string{"http1", "h2"} {
		t.Run(proto, func(t *testing.T) {
			dir := t.TempDir()
			var cert atomic.Pointer[tls.Certificate]
			file := func(name string) string { return filepath.Join(dir, name) }
			write := func(name, text string) {
				t.Helper()
				if err := errors.Join(os.WriteFile(file(name+".new"), []byte(text), 0o600), os.Rename(file(name+".new"), file(name))); err != nil {
					t.Fatal(err)
				}
			}
			renew := func(gateway string) {
				c, k := selfSigned(t, "app.internal")
				pair, err := tls.X509KeyPair([]byte(c), []byte(k))
				if err != nil {
					t.Fatal(err)
				}
				cert.Store(&pair)
				write("ca.pem", c)
				c, k = selfSigned(t, gateway)
				write("own.key", k)
				write("own.pem", c)
			}
			app := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprint(w, r.Proto, " for ", r.TLS.PeerCertificates[0].DNSNames[0])
			}))
			app.EnableHTTP2 = true
			app.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
			app.TLS = &tls.Config{
				ClientAuth:     tls.RequireAnyClientCert,
				NextProtos:     []string{"h2", "http/1.1"},
				GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert.Load(), nil },
			}
			renew("first.gateway")
			app.StartTLS()
			defer app.Close()
			front := freePort(t)
			s := run(t, fmt.Sprintf(`listeners: [{address: %q}]
access_log: off
watch: false
pools:
  shop:
    servers: [{name: a, address: %q}]
    protocol: %s
    health: {interval: 1h}
    tls: {server_name: app.internal, ca_file: %q, cert_file: %q, key_file: %q}
`, front, app.Listener.Addr(), proto, file("ca.pem"), file("own.pem"), file("own.key")))
			version := map[string]string{"http1": "HTTP/1.1", "h2": "HTTP/2.0"}[proto]
			for _, who := range []string{"first.gateway", "second.gateway", "second.gateway"} {
				if got, err := get(front); got != version+" for "+who {
					t.Errorf("%q %v, want %s as %s", got, err, version, who)
				}
				if who == "first.gateway" {
					renew("second.gateway")
				}
				if err := s.Reload(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if n := s.logs.count("server is up"); n != 1 {
				t.Errorf("the server came up %d times: it was taken for another one", n)
			}
		})
	}
}
