// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// listenerTLS reads the files that a listener names.
func (c *checker) listenerTLS(t *TLS, name string) {
	for i := range t.Certificates {
		c.certificate(&t.Certificates[i], fmt.Sprintf("%s.certificates[%d]", name, i))
	}
	at := name + ".client_ca_file"
	switch {
	case t.ClientCerts == "none" && c.has(at):
		c.fail(at, "no certificate is asked of clients; set client_certs to optional or require, or leave this out")
	case t.ClientCerts != "none" && c.has(name+".client_certs") && !c.has(at) && !c.d.bad[at]:
		c.fail(name+".client_certs", "nobody is named who signs the certificates of clients; set client_ca_file")
	case c.has(at):
		text, err := readFile(beside(c.d.path, t.ClientCAFile))
		t.ClientCAs = x509.NewCertPool()
		if err != nil {
			c.fail(at, "%v; name a PEM file that exists", err)
		} else if !t.ClientCAs.AppendCertsFromPEM(text) {
			c.fail(at, "%s has no certificate; write at least one in PEM form", t.ClientCAFile)
		}
	}
}

func (c *checker) certificate(p *Certificate, name string) {
	cert, okCert := c.pem(name+".cert_file", p.CertFile)
	key, okKey := c.pem(name+".key_file", p.KeyFile)
	if !okCert || !okKey {
		return
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		c.fail(name+".cert_file", "%v; give the certificate and the key that belong together, in PEM form", err)
		return
	}
	p.Pair = pair
	if leaf := pair.Leaf; leaf != nil && time.Now().After(leaf.NotAfter) {
		c.lint(name+".cert_file", name, "the certificate has expired on %s; browsers refuse it", leaf.NotAfter.Format(time.DateOnly))
	}
}

func (c *checker) pem(at, path string) ([]byte, bool) {
	if !c.has(at) {
		return nil, false
	}
	text, err := readFile(beside(c.d.path, path))
	switch {
	case err == nil:
		return text, true
	case errors.Is(err, fs.ErrNotExist):
		c.fail(at, "there is no file %s; put it there, or change the path", beside(c.d.path, path))
	default:
		c.fail(at, "%v; make it readable for the user that belay runs as", err)
	}
	return nil, false
}
