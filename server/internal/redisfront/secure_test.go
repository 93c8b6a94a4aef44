// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisfront_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/server/internal/redisfront"
)

// The front speaks TLS to nodes and sentinels, checks their certificates, and
// makes TLS connections for clients that speak none.
func TestTLSToNodesAndSentinels(t *testing.T) {
	g := servertest.StartGroup(t, servertest.GroupOptions{})
	_, addr, roots := servertest.StartRedisTLS(t)
	_, port, _ := net.SplitHostPort(addr)
	for _, s := range g.Sentinels {
		s.Must("SENTINEL", "MONITOR", "secure", "127.0.0.1", port, "2")
		// They speak no TLS here, and shall not hold it for down because of that.
		s.Must("SENTINEL", "SET", "secure", "down-after-milliseconds", "600000")
	}
	cert, key, sentinelRoots := servertest.Certificate(t)
	var secure []string
	for _, a := range g.Addrs() {
		secure = append(secure, servertest.TLSInFront(t, cert, key, a))
	}
	trusting := func(nodes, sentinels *x509.CertPool) func(*redisfront.Config) {
		return func(c *redisfront.Config) {
			c.MasterName, c.Sentinels, c.ListenReplicas, c.KeepCopy = "secure", secure, "", false
			c.Redis.TLS = &tls.Config{RootCAs: nodes}
			c.Sentinel.TLS = &tls.Config{RootCAs: sentinels}
		}
	}
	f := startFront(t, g, trusting(roots, sentinelRoots))
	c, err := dial(f.addr)
	if err != nil {
		t.Fatal(err)
	}
	big := strings.Repeat("x", 200_000)
	if got, err := c.do([]string{"SET", "a", big}, []string{"GET", "a"}); got != big || err != nil {
		t.Error(len(got), err)
	}
	startFront(t, g, trusting(x509.NewCertPool(), sentinelRoots)).says(t, addr, "certificate")
	startFront(t, g, trusting(roots, x509.NewCertPool())).says(t, "0 of 3 sentinels", "certificate")
}

// A user with the rights that docs/redis.md lists, and no other, is enough for all
// that the front does.
func TestRightsOfTheFront(t *testing.T) {
	page, err := os.ReadFile("../../../docs/redis.md")
	if err != nil {
		t.Fatal(err)
	}
	rights := regexp.MustCompile("The front's user needs `([^`]*)`").FindSubmatch(page)
	if rights == nil {
		t.Fatal("docs/redis.md does not say what the front's user needs")
	}
	args := append([]string{"--appendonly", "yes", "--repl-diskless-sync-delay", "0", "--user", "front", "on", ">secret-of-the-front"}, strings.Fields(string(rights[1]))...)
	g := servertest.StartGroup(t, servertest.GroupOptions{Args: args})
	f := startFront(t, g, func(c *redisfront.Config) { c.Redis.User, c.Redis.Password = "front", "secret-of-the-front" })
	m := g.Master()
	f.leads(t, m, 0)
	until(t, "min-replicas-to-write is set", func() error {
		if got := m.Must("CONFIG", "GET", "min-replicas-to-write").([]any)[1]; got != "1" {
			return fmt.Errorf("it is %v", got)
		}
		return nil
	})
	to := g.Replicas()[0]
	until(t, "a planned fail-over", func() error {
		err := f.FailOver(t.Context(), to.Addr())
		if err != nil && !errors.Is(err, redisfront.ErrNotReady) {
			t.Fatal(err)
		}
		return err
	})
	f.leads(t, to, 0)
}
