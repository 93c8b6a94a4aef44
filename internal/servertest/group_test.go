// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package servertest_test

import (
	"testing"

	"github.com/belay-ha/belay/internal/servertest"
)

func TestReplicaHasWhatItsMasterHas(t *testing.T) {
	master := servertest.StartRedis(t, "--requirepass", "secret")
	master.Must("SET", "a", "1")
	r := servertest.StartReplica(t, master)
	if got := r.Must("GET", "a"); got != "1" {
		t.Errorf("GET on the replica: %v", got)
	}
	master.Must("SET", "a", "2")
	r.AwaitCopy(master)
	if got := r.Must("GET", "a"); got != "2" {
		t.Errorf("GET on the replica: %v", got)
	}
	if _, err := r.Do("SET", "a", "3"); err == nil {
		t.Error("a replica took a write")
	}
}

func TestRestartedEmpty(t *testing.T) {
	r := servertest.StartRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	r.Must("SET", "a", "1")
	r.Restart()
	if got := r.Must("GET", "a"); got != "1" {
		t.Errorf("GET after a restart: %v", got)
	}
	r.RestartEmpty()
	if got := r.Must("GET", "a"); got != nil {
		t.Errorf("GET after an empty restart: %v", got)
	}
}

func TestSentinelsPromoteAReplica(t *testing.T) {
	g := servertest.StartGroup(t, servertest.GroupOptions{})
	master := g.Master()
	master.Must("SET", "a", "1")
	old, fresh := g.Switch()
	if old.Port() != master.Port() || fresh.Port() == master.Port() {
		t.Fatalf("switched from %s to %s", old.Addr(), fresh.Addr())
	}
	g.AwaitWhole()
	if got := fresh.Must("GET", "a"); got != "1" {
		t.Errorf("GET on the new master: %v", got)
	}
	fresh.Kill()
	if again := g.AwaitSwitch(fresh); again.Port() != old.Port() {
		t.Errorf("the master is %s", again.Addr())
	}
	fresh.Restart()
	g.AwaitWhole()
}

func TestClusterReplacesAMaster(t *testing.T) {
	c := servertest.StartCluster(t, 0)
	m := c.MasterOf("a")
	m.Must("SET", "a", "1")
	for _, n := range c.Nodes {
		if info := n.Info("replication"); info["role"] == "slave" && info["master_port"] == m.Addr()[len("127.0.0.1:"):] {
			n.AwaitCopy(m)
		}
	}
	m.Kill()
	fresh := c.AwaitSwitch("a", m)
	if got := fresh.Must("GET", "a"); got != "1" {
		t.Errorf("GET on the promoted replica: %v", got)
	}
	m.Restart()
	c.AwaitWhole()
}
