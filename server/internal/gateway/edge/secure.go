// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"crypto/tls"
	"crypto/x509"
)

// ClientCerts says what is asked of clients.
type ClientCerts uint8

// Whether a client needs a certificate.
const (
	ClientCertsNone     ClientCerts = iota
	ClientCertsOptional             // one that is shown must be good
	ClientCertsRequired
)

// Secure returns a TLS configuration: the certificate is chosen by the name that
// the client asks for, the first one if none fits. Ciphers and curves are those
// of the standard library, which are kept safe with it.
func Secure(certs []tls.Certificate, minVersion uint16, clients ClientCerts, cas *x509.CertPool) *tls.Config {
	c := &tls.Config{
		Certificates: certs,
		MinVersion:   max(minVersion, tls.VersionTLS12),
		ClientCAs:    cas,
		NextProtos:   []string{"h2", "http/1.1"},
	}
	switch clients {
	case ClientCertsOptional:
		c.ClientAuth = tls.VerifyClientCertIfGiven
	case ClientCertsRequired:
		c.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return c
}
