// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"
	"strings"
	"time"
)

// Redis is one address in front of a Redis group that Sentinel watches.
type Redis struct {
	Name string
	// host:port that leads to the master.
	Listen string `key:"listen" need:"write host:port, like 127.0.0.1:6379" is:"address" example:"127.0.0.1:6379"`
	// host:port that leads to a replica; left out, there is none.
	ListenReplicas string `key:"listen_replicas" is:"address" example:"127.0.0.1:6380"`
	// What the sentinels call the group.
	MasterName string `key:"master_name" default:"mymaster" example:"shop"`
	// All sentinels, three or more.
	Sentinels []string `key:"sentinels" need:"list all sentinels, as host:port" is:"address" example:"[10.0.0.1:26379, 10.0.0.2:26379, 10.0.0.3:26379]"`
	// How far behind a replica may be that gets readers; Redis tells it in whole seconds.
	MaxLag time.Duration `key:"max_lag" default:"2s" min:"1s" example:"5s"`
	// How long a new connection waits for a master.
	Hold time.Duration `key:"hold" default:"5s" min:"1ms" max:"5s" example:"3s"`
	// How long the word of a majority is good for writes; left out, three quarters of the sentinels' down-after. Longer than down-after gives up the promise of one master.
	Lease time.Duration `key:"lease" min:"100ms" max:"1m" example:"2s"`
	// Set min-replicas-to-write to 1 while both nodes are well, and to 0 once the sentinels have given up the other.
	KeepCopy bool `key:"keep_copy" default:"true" example:"false"`
	// Go back to a preferred master; left out, never.
	FailBack *RedisFailBack `key:"fail_back"`
	// Networks whose clients may connect; left out, all.
	Allow []netip.Prefix `key:"allow" example:"[10.0.0.0/8]"`
	// TLS for clients; left out, none.
	TLS *TLS `key:"tls"`
	// How the front logs in to the nodes. Clients log in themselves.
	Nodes *RedisLogin `key:"nodes"`
	// How the front logs in to the sentinels.
	SentinelLogin *RedisLogin `key:"sentinel_login"`
	// Accept fewer than three sentinels; docs/redis.md says what that costs.
	AllowUnsafePair bool `key:"allow_unsafe_pair" default:"false" example:"true"`
}

// RedisFailBack says when a group goes back to the node that is preferred as master.
type RedisFailBack struct {
	// The preferred node, as the sentinels know it.
	To string `key:"to" need:"write host:port of the preferred node" is:"address" example:"10.0.0.1:6379"`
	// How long its copy has to be complete before.
	After time.Duration `key:"after" default:"1m" min:"1s" example:"5m"`
	// Least time between two of them.
	Every time.Duration `key:"every" default:"10m" min:"1s" example:"1h"`
}

// RedisLogin is how the front logs in to servers.
type RedisLogin struct {
	// ACL user; left out, the default user.
	User string `key:"user" example:"belay"`
	// File with the password, relative to the configuration.
	PasswordFile string `key:"password_file" example:"redis.password"`
	// TLS for these connections, and for those made for clients; left out, none.
	TLS *PoolTLS `key:"tls"`

	Password string // from PasswordFile
}

func (c *checker) redis(r *Redis, name string, taken map[string]string) {
	c.unique(taken, name+".listen", addressTwice, r.Listen)
	if r.ListenReplicas != "" {
		c.unique(taken, name+".listen_replicas", addressTwice, r.ListenReplicas)
	}
	seen := make(map[string]bool)
	for _, s := range r.Sentinels {
		if seen[s] {
			c.fail(name+".sentinels", "%s is listed twice: its word would count twice", s)
		}
		seen[s] = true
	}
	if n := len(r.Sentinels); n > 0 && n < 3 && !r.AllowUnsafePair {
		c.fail(name+".sentinels", "%d sentinels cannot outvote the loss of one; list three or more, or set allow_unsafe_pair: true and read docs/redis.md on what that costs", n)
	}
	if r.TLS != nil {
		c.listenerTLS(r.TLS, name+".tls")
	}
	c.redisLogin(r.Nodes, name+".nodes")
	c.redisLogin(r.SentinelLogin, name+".sentinel_login")
}

func (c *checker) redisLogin(l *RedisLogin, name string) {
	if l == nil {
		return
	}
	if l.PasswordFile != "" {
		if text, ok := c.pem(name+".password_file", l.PasswordFile); ok {
			l.Password = strings.TrimSpace(string(text))
		}
	}
	if l.TLS != nil {
		c.tls(l.TLS, name+".tls")
	}
}
