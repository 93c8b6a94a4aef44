// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package servertest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Cluster is a Redis Cluster of three masters with one replica each.
type Cluster struct {
	t     testing.TB
	Nodes []Redis // the first three began as masters; Nodes[i+3] replicated Nodes[i]
}

const clusterMasters = 3

// StartCluster returns once all nodes agree that the cluster is whole. After
// nodeTimeout of silence a node counts as down; zero: 2 s.
func StartCluster(t testing.TB, nodeTimeout time.Duration, args ...string) *Cluster {
	t.Helper()
	if nodeTimeout == 0 {
		nodeTimeout = 2 * time.Second
	}
	c := &Cluster{t: t}
	password := valueOf(args, "--requirepass")
	for range 2 * clusterMasters {
		own := []string{
			"--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf",
			"--cluster-node-timeout", strconv.FormatInt(nodeTimeout.Milliseconds(), 10),
			"--cluster-port", strconv.Itoa(freePort(t)), // not the port + 10000, which need not exist
			"--cluster-replica-validity-factor", "0",
		}
		if password != "" {
			own = append(own, "--masterauth", password)
		}
		c.Nodes = append(c.Nodes, StartRedis(t, append(own, args...)...))
	}
	c.join()
	return c
}

func (c *Cluster) join() {
	c.t.Helper()
	slots := 16384 / clusterMasters
	for i, n := range c.Nodes {
		n.Must("CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
		if i < clusterMasters {
			last := (i + 1) * slots
			if i == clusterMasters-1 {
				last = 16384
			}
			n.Must("CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(i*slots), strconv.Itoa(last-1))
		}
	}
	hub := c.Nodes[0]
	for _, n := range c.Nodes[1:] {
		bus := n.Must("CONFIG", "GET", "cluster-port").([]any)[1]
		hub.Must("CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(n.Port()), fmt.Sprint(bus))
	}
	for _, n := range c.Nodes {
		await(c.t, "the nodes know each other", func() error { return c.sees(n, len(c.Nodes)) })
	}
	for i, n := range c.Nodes[clusterMasters:] {
		id := fmt.Sprint(c.Nodes[i].Must("CLUSTER", "MYID"))
		await(c.t, "a node becomes a replica", func() error { _, err := n.Do("CLUSTER", "REPLICATE", id); return err })
	}
	c.AwaitWhole()
}

func (c *Cluster) sees(n Redis, want int) error {
	answer, err := n.brief("CLUSTER", "NODES")
	if err != nil {
		return err
	}
	connected := 0
	for line := range strings.SplitSeq(fmt.Sprint(answer), "\n") {
		f := strings.Fields(line)
		if len(f) >= 8 && f[7] == "connected" && !strings.Contains(f[2], "handshake") && !strings.Contains(f[2], "fail") {
			connected++
		}
	}
	if connected != want {
		return fmt.Errorf("%s sees %d of %d", n.Addr(), connected, want)
	}
	return nil
}

// AwaitWhole returns once all slots are served and every replica has its copy,
// as all nodes see it.
func (c *Cluster) AwaitWhole() {
	c.t.Helper()
	for _, n := range c.Nodes {
		await(c.t, "a node says that the cluster is whole", func() error {
			info := respPairs(first(n.brief("CLUSTER", "INFO")))
			if info["cluster_state"] != "ok" || info["cluster_slots_ok"] != "16384" {
				return fmt.Errorf("%s: state %s, %s slots", n.Addr(), info["cluster_state"], info["cluster_slots_ok"])
			}
			if err := c.sees(n, len(c.Nodes)); err != nil {
				return err
			}
			r := respPairs(first(n.brief("INFO", "replication")))
			if r["role"] == "slave" && r["master_link_status"] != "up" || r["role"] == "master" && r["connected_slaves"] == "0" {
				return fmt.Errorf("%s: %s, link %s, %s replicas", n.Addr(), r["role"], r["master_link_status"], r["connected_slaves"])
			}
			return nil
		})
	}
}

// Addrs are the nodes' addresses.
func (c *Cluster) Addrs() []string {
	var a []string
	for _, n := range c.Nodes {
		a = append(a, n.Addr())
	}
	return a
}

// MasterOf is the node that serves a key now.
func (c *Cluster) MasterOf(key string) Redis {
	c.t.Helper()
	var master Redis
	await(c.t, "a node serves the key", func() error {
		for _, n := range c.Nodes {
			// A node that is not the right one answers MOVED; a replica as well.
			if _, err := n.brief("EXISTS", key); err == nil {
				master = n
				return nil
			}
		}
		return fmt.Errorf("none of %d nodes serves it", len(c.Nodes))
	})
	return master
}

// AwaitSwitch returns the node that serves the key once it is another one.
func (c *Cluster) AwaitSwitch(key string, old Redis) Redis {
	c.t.Helper()
	var master Redis
	await(c.t, "another node serves the key", func() error {
		if master = c.MasterOf(key); master.Port() == old.Port() {
			return fmt.Errorf("still %s", old.Addr())
		}
		return nil
	})
	return master
}

// Others are the nodes but one.
func (c *Cluster) Others(r Redis) []Redis {
	return slices.DeleteFunc(slices.Clone(c.Nodes), func(n Redis) bool { return n.Port() == r.Port() })
}
