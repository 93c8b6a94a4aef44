// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/server/internal/config"
)

// A host that a route is for, and that no certificate is for, is told of.
func TestHostsWithoutACertificate(t *testing.T) {
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"shop.example.com", "*.example.org"}, IPAddresses: []net.IP{net.IPv6loopback},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	pkcs, err2 := x509.MarshalPKCS8PrivateKey(key)
	if err := errors.Join(err, err2,
		os.WriteFile(filepath.Join(dir, "c.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600),
		os.WriteFile(filepath.Join(dir, "c.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs}), 0o600)); err != nil {
		t.Fatal(err)
	}
	const tls = `, tls: {certificates: [{cert_file: c.pem, key_file: c.key}]}`
	for _, tc := range []struct {
		host, tls string
		told      bool
	}{
		{"shop.example.com", tls, false},
		{"www.example.com", tls, true},
		{"a.example.org", tls, false},
		{"*.example.org", tls, false},
		{"a.b.example.org", tls, true},
		{"example.org", tls, true},
		{"*.example.com", tls, true},
		{"[::1]", tls, false},
		{"127.0.0.1", tls, true},
		{"www.example.com", "", false}, // nothing is served over TLS
		{"", tls, false},
	} {
		host := ""
		if tc.host != "" {
			host = "host: '" + tc.host + "', "
		}
		path := filepath.Join(dir, "belay.yaml")
		cfg, err := config.Parse(path, []byte("listeners: [{address: \"127.0.0.1:1\""+tc.tls+"}, {address: \"127.0.0.1:3\"}]\nroutes:\n  - {"+host+
			"path: /}\npools: {a: {servers: [{name: x, address: \"127.0.0.1:2\"}]}}\n"))
		if err != nil {
			t.Fatal(tc.host, err)
		}
		told := ""
		for _, l := range cfg.Lints() {
			if strings.Contains(l.Msg, "no certificate is for") {
				told = l.Error()
			}
		}
		if (told != "") != tc.told || tc.told && !strings.HasPrefix(told, path+":3:") {
			t.Errorf("host %q with %q: told %q, want %v", tc.host, tc.tls, told, tc.told)
		}
	}
}
