// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package servertest

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"
)

// SentinelName is the name that the sentinels have for their group.
const SentinelName = "belay"

// Group is a master, its replicas and three sentinels that watch them.
type Group struct {
	t         testing.TB
	Sentinels []Redis
	Nodes     []Redis // the first one began as master
}

// GroupOptions are how StartGroup makes a group. Zero fields are defaults.
type GroupOptions struct {
	Replicas        int           // default 1; at least one
	DownAfter       time.Duration // of silence, until a node counts as down; default 1.5 s
	FailoverTimeout time.Duration // the next fail-over begins after twice that; default 3 s
	Args            []string      // of the nodes, like those of StartRedis
	SentinelArgs    []string      // of the sentinels
	SentinelUser    string        // whom they log in as at the nodes, without password
}

// StartGroup returns once all sentinels agree on the master, its replicas and
// each other.
func StartGroup(t testing.TB, o GroupOptions) *Group {
	t.Helper()
	if o.DownAfter == 0 {
		o.DownAfter = 1500 * time.Millisecond
	}
	if o.FailoverTimeout == 0 {
		o.FailoverTimeout = 3 * time.Second
	}
	g := &Group{t: t}
	password := valueOf(o.Args, "--requirepass")
	args := o.Args
	if password != "" { // the first one may be a replica later
		args = append(slices.Clone(args), "--masterauth", password)
	}
	master := StartRedis(t, args...)
	g.Nodes = append(g.Nodes, master)
	for range max(1, o.Replicas) {
		g.Nodes = append(g.Nodes, StartReplica(t, master, args...))
	}
	config := fmt.Sprintf("sentinel monitor %[1]s 127.0.0.1 %[2]d 2\nsentinel down-after-milliseconds %[1]s %[3]d\nsentinel failover-timeout %[1]s %[4]d\n",
		SentinelName, master.Port(), o.DownAfter.Milliseconds(), o.FailoverTimeout.Milliseconds())
	if password != "" {
		config += fmt.Sprintf("sentinel auth-pass %s %s\n", SentinelName, password)
	}
	if o.SentinelUser != "" {
		config += fmt.Sprintf("sentinel auth-user %[1]s %[2]s\nsentinel auth-pass %[1]s none\n", SentinelName, o.SentinelUser)
	}
	for range 3 {
		g.Sentinels = append(g.Sentinels, startSentinel(t, config, o.SentinelArgs))
	}
	for _, s := range g.Sentinels {
		await(t, "a sentinel knows the group", func() error { return g.known(s) })
	}
	return g
}

func startSentinel(t testing.TB, config string, args []string) Redis {
	t.Helper()
	s := Redis{start(t, spec{
		name:  "redis-sentinel",
		bins:  []string{"redis-sentinel", "valkey-sentinel"},
		users: []string{"redis", "valkey"},
		files: map[string]string{"sentinel.conf": config},
		args: func(dir string, port int) []string {
			return append([]string{
				dir + "/sentinel.conf", "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir, "--logfile", "",
			}, args...)
		},
		ready: answersPing,
	}), valueOf(args, "--requirepass")}
	// They find each other and what changed in less time; a busy machine is no
	// reason to distrust the clock.
	s.Must("SENTINEL", "DEBUG", "INFO-PERIOD", "500", "PUBLISH-PERIOD", "400", "PING-PERIOD", "300", "ASK-PERIOD", "300",
		"TILT-TRIGGER", "10000", "TILT-PERIOD", "1000", "ELECTION-TIMEOUT", "2000")
	return s
}

func (g *Group) known(sentinel Redis) error {
	answer, err := sentinel.Do("SENTINEL", "MASTER", SentinelName)
	if err != nil {
		return err
	}
	m := respPairs(answer)
	if m["num-other-sentinels"] != "2" || m["num-slaves"] != strconv.Itoa(len(g.Nodes)-1) || m["flags"] != "master" {
		return fmt.Errorf("%s others, %s replicas, flags %s", m["num-other-sentinels"], m["num-slaves"], m["flags"])
	}
	return nil
}

// Addrs are the sentinels' addresses.
func (g *Group) Addrs() []string {
	var a []string
	for _, s := range g.Sentinels {
		a = append(a, s.Addr())
	}
	return a
}

// Master is the node that a majority of the sentinels takes for the master. It
// waits until they agree, and the node does.
func (g *Group) Master() Redis {
	g.t.Helper()
	var master Redis
	await(g.t, "the sentinels agree on a master", func() error {
		votes := make(map[int]int)
		for _, s := range g.Sentinels {
			answer, _ := s.brief("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SentinelName)
			if addr, ok := answer.([]any); ok && len(addr) == 2 {
				port, _ := strconv.Atoi(fmt.Sprint(addr[1]))
				votes[port]++
			}
		}
		for _, n := range g.Nodes {
			if votes[n.Port()]*2 <= len(g.Sentinels) {
				continue
			}
			role, err := n.brief("ROLE") // it may be frozen
			if list, ok := role.([]any); !ok || len(list) == 0 || list[0] != "master" {
				return fmt.Errorf("%s answers to ROLE: %v, %w", n.Addr(), role, err)
			}
			master = n
			return nil
		}
		return fmt.Errorf("votes by port: %v", votes)
	})
	return master
}

// AwaitSwitch returns the new master once it is another one than old.
func (g *Group) AwaitSwitch(old Redis) Redis {
	g.t.Helper()
	var master Redis
	await(g.t, "another node is master", func() error {
		if master = g.Master(); master.Port() == old.Port() {
			return fmt.Errorf("still %s", old.Addr())
		}
		return nil
	})
	return master
}

// Replicas are the nodes that are not the master.
func (g *Group) Replicas() []Redis {
	g.t.Helper()
	master := g.Master()
	return slices.DeleteFunc(slices.Clone(g.Nodes), func(r Redis) bool { return r.Port() == master.Port() })
}

// AwaitWhole returns once every node but the master replicates it, the
// sentinels know, and a fail-over would be possible.
func (g *Group) AwaitWhole() {
	g.t.Helper()
	master := g.Master()
	for _, r := range g.Replicas() {
		await(g.t, "a node replicates the master", func() error {
			info := respPairs(first(r.Do("INFO", "replication")))
			if info["master_port"] != strconv.Itoa(master.Port()) || info["master_link_status"] != "up" {
				return fmt.Errorf("%s: role %s of %s, link %s", r.Addr(), info["role"], info["master_port"], info["master_link_status"])
			}
			return nil
		})
	}
	for _, s := range g.Sentinels {
		await(g.t, "a sentinel sees the group whole", func() error { return g.known(s) })
	}
}

// Switch is a planned fail-over, in the way that loses nothing: the master stops
// taking writes, a replica catches up, and the sentinels promote one.
func (g *Group) Switch() (old, fresh Redis) {
	g.t.Helper()
	old = g.Master()
	old.Must("CLIENT", "PAUSE", "10000", "WRITE")
	for _, r := range g.Replicas() {
		r.AwaitCopy(old)
	}
	await(g.t, "a sentinel begins the fail-over", func() error {
		_, err := g.Sentinels[0].Do("SENTINEL", "FAILOVER", SentinelName)
		return err
	})
	fresh = g.AwaitSwitch(old)
	old.Must("REPLICAOF", "127.0.0.1", strconv.Itoa(fresh.Port())) // as the sentinels will
	old.Must("CLIENT", "UNPAUSE")
	return old, fresh
}
