// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package servertest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// Certificate writes a certificate of 127.0.0.1 and its key, each to a file that
// servers can read, and returns who trusts it.
func Certificate(t testing.TB) (cert, key string, roots *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "servertest"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	certDER, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := directory(t, nil)
	if err := os.Chmod(dir, 0o755); err != nil { // servers run as another user
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) (string, []byte) {
		path, text := filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
		return path, text
	}
	cert, certPEM := write("cert.pem", "CERTIFICATE", certDER)
	key, _ = write("key.pem", "PRIVATE KEY", keyDER)
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	return cert, key, roots
}

// StartRedisTLS starts a server that speaks TLS at addr, and plainly at its own
// address. It asks for no certificate of clients.
func StartRedisTLS(t testing.TB, args ...string) (r Redis, addr string, roots *x509.CertPool) {
	t.Helper()
	cert, key, roots := Certificate(t)
	port := strconv.Itoa(freePort(t))
	r = StartRedis(t, append([]string{
		"--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "no",
	}, args...)...)
	return r, net.JoinHostPort("127.0.0.1", port), roots
}
