// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package natsstore_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/natsstore"
	"github.com/belay-ha/belay/session/natsstore/embedded"
)

// certificate is one for 127.0.0.1 that vouches for itself.
func certificate(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "belay test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key, Leaf: cert}},
		RootCAs:      pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
	}
}

// TestExternalCluster: several addresses, of which one is dead, a password, TLS
// on every connection, and replicas.
func TestExternalCluster(t *testing.T) {
	own := certificate(t)
	c := startCluster(t, func(o *embedded.Options) {
		o.Password, o.TLS = "open sesame", own
		o.Cluster.Password, o.Cluster.TLS = "between peers", own
	})
	urls := "tls://" + freeAddrs(t, 1)[0] + "," + c.urls(1)
	right := []nats.Option{nats.UserInfo(embedded.User, "open sesame"), nats.Secure(own)}
	s := open(t, dial(t, urls, right...), &replicated)
	if err := s.Create(t.Context(), newID(1), record(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, dial(t, c.urls(2), right...), nil).Load(t.Context(), newID(1)); err != nil {
		t.Errorf("by way of another peer: %v", err)
	}

	for name, opts := range map[string][]nats.Option{
		"wrong_password": {nats.UserInfo(embedded.User, "open barley"), nats.Secure(own)},
		"no_password":    {nats.Secure(own)},
		"no_certificate": {nats.UserInfo(embedded.User, "open sesame"), nats.Secure(&tls.Config{RootCAs: own.RootCAs})},
		"unknown_issuer": {nats.UserInfo(embedded.User, "open sesame"), nats.Secure(&tls.Config{Certificates: own.Certificates})},
	} {
		_, err := natsstore.Dial(t.Context(), c.urls(0), opts...)
		if err == nil || !errors.Is(err, session.ErrUnavailable) || strings.Contains(err.Error(), "barley") || strings.Contains(err.Error(), "sesame") ||
			!strings.Contains(err.Error(), "127.0.0.1") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	// A stranger at the port of the peers is no peer.
	stranger := freeAddrs(t, 1)[0]
	srv, err := embedded.New(t.TempDir(), &embedded.Options{Cluster: &embedded.Cluster{
		Name: "stranger", Listen: stranger, Peers: append([]string{stranger}, c.opts[0].Cluster.Peers...),
		Password: "wrong", TLS: own, Wait: time.Second,
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "reaches none") {
		t.Errorf("a peer with a wrong password: %v", err)
	}
}

func TestOwnServerWithoutTheNetwork(t *testing.T) {
	srv, err := embedded.New(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := natsstore.Dial(t.Context(), "", nats.InProcessServer(srv)); err == nil || !strings.Contains(err.Error(), "not ready") {
		t.Errorf("before it runs: %v", err)
	}
	c := startCluster(t, nil)
	s := open(t, dial(t, "", nats.InProcessServer(c.srvs[1])), &replicated)
	if err := s.Create(t.Context(), newID(1), record(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, dial(t, c.urls(2)), nil).Load(t.Context(), newID(1)); err != nil {
		t.Errorf("another peer: %v", err)
	}
	for i, srv := range c.srvs {
		if err := srv.Check(); err != nil {
			t.Errorf("peer %d of a whole cluster: %v", i, err)
		}
	}
}
