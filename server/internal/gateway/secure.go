// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/belay-ha/belay/server/internal/gateway/upstream"
)

// credentials are what is in the files that a TLS names.
type credentials struct{ ca, cert, key []byte }

func (t *TLS) read() (c credentials, err error) {
	for _, f := range []struct {
		name string
		to   *[]byte
	}{{t.CAFile, &c.ca}, {t.CertFile, &c.cert}, {t.KeyFile, &c.key}} {
		if f.name == "" {
			continue
		}
		if *f.to, err = os.ReadFile(f.name); err != nil {
			return c, fmt.Errorf("gateway: read a file for TLS to servers: %w", err)
		}
	}
	return c, nil
}

// sum tells whether the files are still the same.
func (c *credentials) sum() [sha256.Size]byte {
	var all []byte
	for _, part := range [][]byte{c.ca, c.cert, c.key} {
		sum := sha256.Sum256(part)
		all = append(all, sum[:]...)
	}
	return sha256.Sum256(all)
}

// client returns what crypto/tls needs to talk to servers as t says.
func (t *TLS) client(c *credentials) (*tls.Config, error) {
	cfg := &tls.Config{ServerName: t.ServerName, InsecureSkipVerify: t.Insecure, MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(c.ca) {
			return nil, fmt.Errorf("gateway: %s has no certificate in PEM", t.CAFile)
		}
	}
	if t.CertFile != "" {
		cert, err := tls.X509KeyPair(c.cert, c.key)
		if err != nil {
			return nil, fmt.Errorf("gateway: load the gateway's own certificate: %w", err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	return cfg, nil
}

// trust has connections from now on made as t says, with what its files say now;
// nothing happens if that is what they said before. If they cannot be used, what
// was before stays, and where there was nothing no server is trusted: nothing
// ever goes out in the clear. The caller is alone.
func (b *backend) trust(t *TLS) {
	var secure *tls.Config
	if t != nil {
		files, err := t.read()
		sum := files.sum()
		if err == nil && sum == b.trusted {
			return
		}
		if err == nil {
			secure, err = t.client(&files)
		}
		if err != nil {
			b.g.log.Error("TLS to servers cannot be set up", "pool", b.pool, "server", b.name, "error", err)
			if b.trusted != [sha256.Size]byte{} {
				return
			}
			sum, secure = [sha256.Size]byte{}, &tls.Config{RootCAs: x509.NewCertPool()}
		}
		b.trusted = sum
		if b.protocol != upstream.HTTP1 {
			secure.NextProtos = []string{"h2"}
		}
	}
	b.conns.SetTLS(secure)
	if b.protocol == upstream.HTTP1 {
		return
	}
	if old := b.streams.Swap(upstream.NewTransport(b.conns, b.protocol)); old != nil {
		old.CloseIdle() // its other connections end when they are idle
	}
}
