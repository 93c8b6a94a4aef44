// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcache_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/memcache"
	"github.com/belay-ha/belay/internal/servertest"
)

// certificate writes a certificate of 127.0.0.1 and its key where the server can
// read them.
func certificate(t *testing.T) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "memcached"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return publicCopy(t, file)
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", keyDER), pool
}

func TestTLS(t *testing.T) {
	t.Parallel()
	cert, key, pool := certificate(t)
	s := servertest.StartMemcached(t, "-Z", "-o", "ssl_chain_cert="+cert+",ssl_key="+key)
	ctx := within(t, 30*time.Second)
	c := client(t, s.Addr(), &memcache.Options{TLS: &tls.Config{RootCAs: pool}, AnswerTimeout: 500 * time.Millisecond})
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			key, value := fmt.Sprint(i), bytes.Repeat([]byte{byte(i)}, 1+i*2000)
			if _, err := c.Set(ctx, key, value, hour); err != nil {
				t.Error(err)
			}
			if it, err := c.Get(ctx, key); err != nil || !bytes.Equal(it.Value, value) {
				t.Errorf("%d bytes of %d, %v", len(it.Value), len(value), err)
			}
		})
	}
	wg.Wait()
	listed := make(map[string]int) // the crawler writes to the connection by itself
	if err := c.Entries(ctx, func(e memcache.Entry) error { listed[e.Key]++; return nil }); err != nil {
		t.Errorf("entries: %v", err)
	}
	for i := range 50 {
		if listed[fmt.Sprint(i)] != 1 {
			t.Errorf("key %d is listed %d times", i, listed[fmt.Sprint(i)])
		}
	}

	err := second(client(t, s.Addr(), &memcache.Options{TLS: &tls.Config{}}).Get(ctx, "1"))
	if _, unknown := errors.AsType[*tls.CertificateVerificationError](err); !unknown || !errors.Is(err, memcache.ErrUnavailable) {
		t.Errorf("a certificate that nobody knows: %v", err)
	}
	err = second(client(t, s.Addr(), &memcache.Options{ConnectTimeout: 300 * time.Millisecond}).Get(ctx, "1"))
	if !errors.Is(err, memcache.ErrUnavailable) {
		t.Errorf("without TLS: %v", err)
	}
	plain := servertest.StartMemcached(t)
	err = second(client(t, plain.Addr(), &memcache.Options{TLS: &tls.Config{RootCAs: pool}, ConnectTimeout: 300 * time.Millisecond}).Get(ctx, "1"))
	if !errors.Is(err, memcache.ErrUnavailable) || strings.Contains(err.Error(), "-Z") {
		t.Errorf("TLS to a server without: %v", err)
	}

	// And Close does not wait for a farewell.
	freeze(t, s, &memcache.Options{TLS: &tls.Config{RootCAs: pool}})
	for range 20 {
		wg.Go(func() {
			if _, err := c.Set(ctx, "k", make([]byte, 500_000), hour); !errors.Is(err, memcache.ErrUnavailable) {
				t.Errorf("frozen: %v", err)
			}
		})
	}
	wg.Wait()
	s.Kill()
	_ = c.Close()
}
