// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisfront_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/server/internal/redisfront"
)

// says waits until the front holds for a reason that has all the parts.
func (f front) says(t *testing.T, parts ...string) {
	t.Helper()
	until(t, fmt.Sprintf("the front holds and says %q", parts), func() error {
		s := f.Status()
		for _, p := range parts {
			if s.Open || !strings.Contains(s.Reason, p) {
				return fmt.Errorf("open %v: %s", s.Open, s.Reason)
			}
		}
		return nil
	})
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	good := redisfront.Config{Name: "a", MasterName: "m", Sentinels: []string{"a:1", "b:1", "c:1"}, Listen: "127.0.0.1:0"}
	for name, tt := range map[string]struct {
		change func(*redisfront.Config)
		want   string
	}{
		"no_sentinels":         {func(c *redisfront.Config) { c.Sentinels = nil }, "list all of them"},
		"two_sentinels":        {func(c *redisfront.Config) { c.Sentinels = c.Sentinels[:2] }, "allow_unsafe_pair"},
		"a_sentinel_twice":     {func(c *redisfront.Config) { c.Sentinels = []string{"a:1", "a:1", "b:1"} }, "a:1 is listed twice"},
		"no_port":              {func(c *redisfront.Config) { c.Sentinels = []string{"a", "b:1", "c:1"} }, `"a" is not host:port`},
		"no_master_name":       {func(c *redisfront.Config) { c.MasterName = "" }, "master_name"},
		"no_listener":          {func(c *redisfront.Config) { c.Listen = "" }, "listen_replicas"},
		"held_for_too_long":    {func(c *redisfront.Config) { c.Hold = time.Minute }, "5s is the most"},
		"negative":             {func(c *redisfront.Config) { c.MaxLag = -1 }, "max_lag is negative"},
		"fail_back_to_no_port": {func(c *redisfront.Config) { c.FailBack.To = "x" }, "fail_back.to"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := good
			tt.change(&cfg)
			if _, err := redisfront.New(cfg, nil); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	t.Run("all_at_once", func(t *testing.T) {
		t.Parallel()
		_, err := redisfront.New(redisfront.Config{}, nil)
		for _, want := range []string{"name is missing", "master_name", "no listener", "no sentinels"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v does not say %q", err, want)
			}
		}
	})
}

// A pair with one sentinel runs when that was asked for, and says what it is.
func TestUnsafePairWarns(t *testing.T) {
	g := group(t)
	f := startFront(t, g, func(c *redisfront.Config) { c.Sentinels, c.AllowUnsafePair = c.Sentinels[:1], true })
	f.leads(t, g.Master(), 0)
	if w := f.Status().Warnings; len(w) != 1 || !strings.Contains(w[0], "allow_unsafe_pair") {
		t.Error(w)
	}
}

func TestWrongMasterName(t *testing.T) {
	g := group(t)
	startFront(t, g, func(c *redisfront.Config) { c.MasterName = "other" }).says(t, "0 of 3 sentinels answer", "check master_name", g.Addrs()[1])
}

func TestPasswordOfTheSentinels(t *testing.T) {
	g := servertest.StartGroup(t, servertest.GroupOptions{SentinelArgs: []string{"--requirepass", "secret-of-sentinels", "--sentinel", "sentinel-pass", "secret-of-sentinels"}})
	f := startFront(t, g, func(c *redisfront.Config) { c.Sentinel.Password = "wrong-secret" })
	f.says(t, "refuses the user or the password", g.Addrs()[0])
	startFront(t, g).says(t, "wants a password")
	startFront(t, g, func(c *redisfront.Config) { c.Sentinel.Password = "secret-of-sentinels" }).leads(t, g.Master(), 0)
	if s := fmt.Sprintf("%+v", f.Status()); strings.Contains(s, "wrong-secret") {
		t.Error("the status shows a password")
	}
}

func TestPasswordOfTheNodes(t *testing.T) {
	g := servertest.StartGroup(t, servertest.GroupOptions{Args: []string{"--requirepass", "secret-of-nodes"}})
	startFront(t, g, func(c *redisfront.Config) { c.Redis.Password = "wrong-secret" }).says(t, "refuses the user or the password", g.Nodes[0].Addr())
	f := startFront(t, g, func(c *redisfront.Config) { c.Redis.Password = "secret-of-nodes" })
	f.leads(t, g.Master(), 0)
	c, err := dial(f.addr)
	if err != nil {
		t.Fatal(err)
	}
	// Clients log in themselves: the front lends nobody its password.
	if _, err := c.do([]string{"GET", "a"}); err == nil || reason(err) != "NOAUTH" {
		t.Error(err)
	}
	if _, err := c.do([]string{"AUTH", "secret-of-nodes"}, []string{"SET", "a", "1"}); err != nil {
		t.Error(err)
	}
}

// Two sets of sentinels with the same name for two groups: a mix of them is no
// majority for either.
func TestSentinelsThatDisagree(t *testing.T) {
	one, two := group(t), group(t)
	f := startFront(t, one, func(c *redisfront.Config) {
		c.Sentinels = []string{one.Addrs()[0], two.Addrs()[0], "127.0.0.1:1"}
	})
	f.says(t, "do not agree", one.Master().Addr(), two.Master().Addr(), "127.0.0.1:1")
}

// What the sentinels call the master says that it replicates a node that they do
// not know: nobody is led there, nor after it.
func TestReplicaOfAnotherMaster(t *testing.T) {
	g, stranger := group(t), servertest.StartRedis(t)
	m := g.Master()
	for _, s := range g.Sentinels { // they shall not mend it
		s.Must("SENTINEL", "SET", servertest.SentinelName, "down-after-milliseconds", "600000")
		s.Must("SENTINEL", "DEBUG", "PUBLISH-PERIOD", "600000")
	}
	f := startFront(t, g)
	f.leads(t, m, 0)
	m.Must("REPLICAOF", "127.0.0.1", fmt.Sprint(stranger.Port()))
	f.says(t, "says that it is a replica of "+stranger.Addr())
}

// A master that comes back at once and empty, without the guard: the front sees
// it and does not lead there.
func TestEmptyMasterIsRefused(t *testing.T) {
	g := servertest.StartGroup(t, servertest.GroupOptions{DownAfter: time.Minute})
	f := startFront(t, g)
	m := g.Master()
	f.leads(t, m, 0)
	m.Must("SET", "a", "1")
	until(t, "the front has seen the key", func() error {
		for _, n := range f.Status().Nodes {
			if n.Address == m.Addr() && n.Keys == 1 {
				return nil
			}
		}
		return errors.New("not yet")
	})
	m.RestartEmpty()
	f.says(t, "without its data")
	if a := f.Status().Alarms; len(a) != 1 {
		t.Errorf("alarms: %q", a)
	}
}

// The guard does not start it at all; with data, or when told to, it does.
func TestGuardRefusesAnEmptyMaster(t *testing.T) {
	g := servertest.StartGroup(t, servertest.GroupOptions{DownAfter: time.Minute, Args: []string{"--appendonly", "yes"}})
	m := g.Master()
	m.Must("SET", "a", "1")
	m.Kill()
	cfg := redisfront.GuardConfig{
		MasterName: servertest.SentinelName, Sentinels: g.Addrs(), Self: m.Addr(), Command: m.CommandLine(), HoldBack: time.Millisecond,
	}
	command, err := redisfront.Guard(t.Context(), cfg)
	if err != nil || !strings.HasSuffix(strings.Join(command, " "), "--replicaof no one") {
		t.Fatal(command, err)
	}
	m.RestartWith(command)
	if got := m.Must("GET", "a"); got != "1" {
		t.Errorf("after the guard looked at its data it has %v", got)
	}
	m.Clear()
	if _, err := redisfront.Guard(t.Context(), cfg); !errors.Is(err, redisfront.ErrEmptyMaster) {
		t.Error(err)
	}
	cfg.AllowEmpty = true
	if _, err := redisfront.Guard(t.Context(), cfg); err != nil {
		t.Error(err)
	}
}

// Without a majority the guard starts nothing.
func TestGuardWaitsForAMajority(t *testing.T) {
	g := group(t)
	g.Sentinels[0].Kill()
	g.Sentinels[1].Kill()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	command, err := redisfront.Guard(ctx, redisfront.GuardConfig{
		MasterName: servertest.SentinelName, Sentinels: g.Addrs(), Self: g.Nodes[1].Addr(), Command: g.Nodes[1].CommandLine(),
	})
	if err == nil || !strings.Contains(err.Error(), "1 of 3 sentinels") {
		t.Error(command, err)
	}
}

func TestGuardSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, err := redisfront.Guard(t.Context(), redisfront.GuardConfig{})
	for _, want := range []string{"--master-name", "--sentinel", "--self", "redis-server"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

// A client that comes while there is no master waits, and is let in when there
// is one; it does not wait for longer than Hold.
func TestHold(t *testing.T) {
	g := group(t)
	r := servertest.StartRelay(t, g.Addrs()[0])
	r.Set(servertest.Fault{Mode: servertest.Silent})
	f := startFront(t, g, func(c *redisfront.Config) {
		c.Sentinels = []string{r.Addr(), g.Addrs()[1], "127.0.0.1:1"}
		c.Hold = 200 * time.Millisecond
	})
	c, err := dial(f.addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.do([]string{"PING"}); err == nil {
		t.Error("an answer without a master")
	}
	held := startFront(t, g, func(c *redisfront.Config) { c.Sentinels = []string{r.Addr(), g.Addrs()[1], "127.0.0.1:1"} })
	if c, err = dial(held.addr); err != nil {
		t.Fatal(err)
	}
	until(t, "the client is held", func() error {
		if s := held.Status(); s.Held != 1 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	r.Restore()
	if got, err := c.do([]string{"PING"}); got != "PONG" || err != nil {
		t.Error(got, err)
	}
	until(t, "nobody is held", func() error {
		if s := held.Status(); s.Held != 0 || s.Links != 1 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}

func TestAllowedClients(t *testing.T) {
	g := group(t)
	f := startFront(t, g, func(c *redisfront.Config) { c.Allow = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	f.leads(t, g.Master(), 0)
	c, err := dial(f.addr)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.do([]string{"PING"}); err == nil {
		t.Error("a client that is not on the list got", got)
	}
}

func TestTLSForClients(t *testing.T) {
	g := group(t)
	cert, pool := certificate(t)
	f := startFront(t, g, func(c *redisfront.Config) { c.TLS = &tls.Config{Certificates: []tls.Certificate{cert}} })
	f.leads(t, g.Master(), 0)
	tc, err := tls.Dial("tcp", f.addr, &tls.Config{RootCAs: pool, ServerName: "front.test"})
	if err != nil {
		t.Fatal(err)
	}
	c, _ := dial(f.addr)
	c.Conn.Close()
	c = &conn{tc, c.r}
	c.r.Reset(tc)
	big := strings.Repeat("x", 300_000)
	if _, err := c.do([]string{"SET", "a", big}); err != nil {
		t.Fatal(err)
	}
	if got, err := c.do([]string{"GET", "a"}); got != big || err != nil {
		t.Error(len(got), err)
	}
}

func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"front.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, _ := x509.ParseCertificate(der)
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// A client that sends and hangs up in one breath gets its answer, and leaves
// nothing behind.
func TestClientThatHangsUp(t *testing.T) {
	g := group(t)
	f := startFront(t, g)
	f.leads(t, g.Master(), 0)
	for i := range 5 {
		c, err := dial(f.addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "PING\r\n"); err != nil {
			t.Fatal(err)
		}
		if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if all, err := io.ReadAll(c); string(all) != "+PONG\r\n" || err != nil {
			t.Fatalf("client %d: %q, %v", i, all, err)
		}
		c.Close()
	}
	until(t, "all links have ended", func() error {
		if s := f.Status(); s.Links != 0 {
			return fmt.Errorf("%d are left", s.Links)
		}
		return nil
	})
}
