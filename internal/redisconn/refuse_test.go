// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisconn_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/redisconn"
	"github.com/belay-ha/belay/internal/servertest"
)

// refuses wants an error of Open, or of the first call, that has all these words.
func refuses(t *testing.T, url string, opts *redisconn.Options, words ...string) {
	t.Helper()
	c, err := redisconn.Open(within(t, time.Second), url, opts)
	if err == nil {
		t.Cleanup(c.Close)
		err = c.Do(within(t, time.Second), set("1")).Err()
	}
	if err == nil {
		t.Errorf("no error, want one with %q", words)
		return
	}
	for _, w := range append(words, "redis") {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("got %v, want one with %q", err, w)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the password is in %v", err)
	}
}

func TestServersThatCannotBeUsed(t *testing.T) {
	plain := servertest.StartRedis(t)
	t.Run("unreachable", func(t *testing.T) { refuses(t, "redis://127.0.0.1:1", nil, "127.0.0.1:1", "refused") })
	t.Run("unreachable_whatever_TLS", func(t *testing.T) {
		for _, scheme := range []string{"redis", "rediss"} {
			_, err := redisconn.Open(within(t, time.Second), scheme+"://127.0.0.1:1", nil)
			if err == nil || strings.Contains(err.Error(), "perhaps") {
				t.Errorf("%s: got %v, want one without a guess", scheme, err)
			}
		}
	})
	t.Run("wrong_password", func(t *testing.T) {
		r := servertest.StartRedis(t, "--requirepass", "right")
		refuses(t, "redis://:secret@"+r.Addr(), nil, r.Addr(), "password in the address")
		refuses(t, "redis://"+r.Addr(), nil, r.Addr(), "wants a password: put it into the address")
	})
	t.Run("no_permission", func(t *testing.T) {
		r := servertest.StartRedis(t)
		r.Must("ACL", "SETUSER", "me", "on", ">secret", "~*", "+@connection", "+@read")
		refuses(t, "redis://me:secret@"+r.Addr(), nil, r.Addr(), "ACL", "set")
	})
	t.Run("no_permission_to_wait", func(t *testing.T) {
		r := servertest.StartRedis(t)
		r.Must("ACL", "SETUSER", "me", "on", ">secret", "~*", "+@all", "-wait")
		c := openWith(t, "redis://me:secret@"+r.Addr(), &redisconn.Options{Replicas: 1})
		err := c.Write(t.Context(), set("1")).Err()
		if !errors.Is(err, redisconn.ErrReplicas) || !strings.Contains(err.Error(), "ACL") || !strings.Contains(err.Error(), r.Addr()) {
			t.Errorf("got %v, want ErrReplicas and why", err)
		}
	})
	t.Run("replica", func(t *testing.T) {
		r := servertest.StartReplica(t, plain)
		refuses(t, r.URL(), nil, r.Addr(), "replica", "master, 127.0.0.1:"+fmt.Sprint(plain.Port()))
	})
	t.Run("no_such_database", func(t *testing.T) {
		refuses(t, "redis://"+plain.Addr()+"/99", nil, plain.Addr(), "no such database")
	})
	t.Run("tls_where_there_is_none", func(t *testing.T) {
		refuses(t, "rediss://"+plain.Addr(), nil, plain.Addr(), "no TLS")
	})
	secure, addr, roots := servertest.StartRedisTLS(t)
	t.Run("no_tls_where_there_is", func(t *testing.T) { refuses(t, "redis://"+addr, nil, addr, "TLS") })
	t.Run("certificate_of_nobody", func(t *testing.T) { refuses(t, "rediss://"+addr, nil, addr, "certificate") })
	t.Run("tls", func(t *testing.T) {
		c, err := redisconn.Open(t.Context(), "rediss://"+addr, &redisconn.Options{TLS: &tls.Config{RootCAs: roots}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Do(t.Context(), set("1")).Err(); err != nil || secure.Must("GET", "k") != "1" {
			t.Errorf("over TLS: %v", err)
		}
	})
	t.Run("too_few_replicas", func(t *testing.T) {
		r := servertest.StartRedis(t, "--min-replicas-to-write", "1")
		refuses(t, r.URL(), nil, r.Addr(), "NOREPLICAS")
	})
}

func TestServersOfAnotherForm(t *testing.T) {
	plain := servertest.StartRedis(t)
	g := servertest.StartGroup(t, servertest.GroupOptions{})
	c := servertest.StartCluster(t, 0)
	t.Run("one_server_of_a_cluster", func(t *testing.T) { refuses(t, c.Nodes[0].URL(), nil, c.Nodes[0].Addr(), "redis+cluster") })
	t.Run("a_sentinel", func(t *testing.T) { refuses(t, g.Sentinels[0].URL(), nil, g.Sentinels[0].Addr(), "redis+sentinel") })
	t.Run("a_server_as_cluster", func(t *testing.T) {
		refuses(t, "redis+cluster://"+plain.Addr(), nil, plain.Addr(), "no part of a cluster")
	})
	t.Run("a_server_as_sentinel", func(t *testing.T) {
		refuses(t, "redis+sentinel://"+plain.Addr()+"/main", nil, plain.Addr(), "no sentinel")
	})
	t.Run("master_that_sentinels_do_not_know", func(t *testing.T) {
		refuses(t, "redis+sentinel://"+strings.Join(g.Addrs(), ",")+"/main", nil, "main", g.Addrs()[0], "do not know")
	})
	t.Run("replicas_that_are_not_there", func(t *testing.T) {
		conn, err := redisconn.Open(t.Context(), plain.URL(), &redisconn.Options{Replicas: 1, ReplicaTimeout: 50 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		err = conn.Write(t.Context(), set("1")).Err()
		if err == nil || !strings.Contains(err.Error(), "0 of 1") || !strings.Contains(err.Error(), plain.Addr()) {
			t.Errorf("got %v", err)
		}
	})
}
