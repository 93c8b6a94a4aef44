// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisconn_test

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/belay-ha/belay/internal/redisconn"
	"github.com/belay-ha/belay/internal/servertest"
)

func setScript() *redisconn.Script {
	return redisconn.NewScript("return redis.call('SET', KEYS[1], ARGV[1])")
}

func TestWriteIsDoneWhenReplicasHaveIt(t *testing.T) {
	master := servertest.StartRedis(t)
	replica := servertest.StartReplica(t, master)
	c := openWith(t, master.URL(), &redisconn.Options{Replicas: 1, ReplicaTimeout: 20 * time.Second})
	script := setScript()
	for i := range 20 {
		want := strconv.Itoa(i)
		if err := c.WriteScript(t.Context(), script, []string{"k"}, want).Err(); err != nil {
			t.Fatal(err)
		}
		if got := replica.Must("GET", "k"); got != want {
			t.Fatalf("the replica has %v, %s was acknowledged", got, want)
		}
	}
	replica.Freeze()
	impatient := openWith(t, master.URL(), &redisconn.Options{Replicas: 1, ReplicaTimeout: 50 * time.Millisecond})
	for name, err := range map[string]error{
		"command": impatient.Write(t.Context(), set("command")).Err(),
		"script":  impatient.WriteScript(t.Context(), script, []string{"k"}, "script").Err(),
		// It wrote nothing itself: what is waited for is what others wrote.
		"reading": impatient.Write(t.Context(), get).Err(),
	} {
		if !errors.Is(err, redisconn.ErrReplicas) || !strings.Contains(err.Error(), "0 of 1") || !strings.Contains(err.Error(), master.Addr()) {
			t.Errorf("%s: got %v, want ErrReplicas", name, err)
		}
	}
	if err := impatient.Do(t.Context(), set("unwaited")).Err(); err != nil {
		t.Errorf("a write that waits for nobody: %v", err)
	}
	replica.Thaw()
	if err := c.Write(t.Context(), set("again")).Err(); err != nil {
		t.Errorf("after the thaw: %v", err)
	}
}

func TestWaitingHoldsUpNobodyElse(t *testing.T) {
	master := servertest.StartRedis(t)
	replica := servertest.StartReplica(t, master)
	c := openWith(t, master.URL(), &redisconn.Options{Replicas: 1, ReplicaTimeout: time.Minute})
	replica.Freeze()
	waiting := make(chan redisconn.Result, 1)
	ctx := within(t, time.Minute)
	go func() { waiting <- c.Write(ctx, set("slow")) }()
	for v := ""; v != "slow"; { // until it is written, and waited for
		v, _ = c.Do(t.Context(), get).ToString()
	}
	for range 100 {
		if err := c.Do(t.Context(), get).Err(); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case res := <-waiting:
		t.Errorf("acknowledged while the replica is frozen: %v", res.Err())
	default:
	}
	replica.Thaw()
	if err := (<-waiting).Err(); err != nil {
		t.Error(err)
	}
}

// survives writes through a fail-over until writes are taken again. If it is a
// planned one, each write is found that was acknowledged.
func survives(t *testing.T, c *redisconn.Conn, key string, planned bool, failOver func()) {
	t.Helper()
	script := setScript()
	done := make(chan struct{})
	go func() { defer close(done); failOver() }()
	n := 0
	for over := false; ; {
		n++
		if err := c.WriteScript(within(t, time.Minute), script, []string{key}, strconv.Itoa(n)).Err(); err != nil {
			t.Fatalf("write %d: %v", n, err)
		}
		if got, err := c.Do(within(t, time.Minute), func(b rueidis.Builder) rueidis.Completed { return b.Get().Key(key).Build() }).ToString(); err != nil || planned && got != strconv.Itoa(n) {
			t.Fatalf("after write %d: %q, %v", n, got, err)
		}
		if over {
			return
		}
		select {
		case <-done:
			over = true // one more
		default:
		}
	}
}

func TestMasterThatSentinelsName(t *testing.T) {
	g := servertest.StartGroup(t, servertest.GroupOptions{Args: []string{"--requirepass", "secret"}})
	c := openWith(t, "redis+sentinel://:secret@"+strings.Join(g.Addrs(), ",")+"/"+servertest.SentinelName, nil)
	survives(t, c, "k", true, func() { g.Switch() })
	g.AwaitWhole()
	old := g.Master()
	survives(t, c, "k", false, func() {
		old.Kill()
		g.AwaitSwitch(old)
	})
	old.Restart()
	g.AwaitWhole()
	old = g.Master()
	survives(t, c, "k", false, func() { // a host that hangs
		old.Freeze()
		g.AwaitSwitch(old)
	})
	old.Thaw()
	// One sentinel is enough to open.
	g.Sentinels[0].Kill()
	openWith(t, "redis+sentinel://:secret@"+strings.Join(g.Addrs(), ",")+"/"+servertest.SentinelName, nil)
}

func TestCluster(t *testing.T) {
	cl := servertest.StartCluster(t, 0)
	c := openWith(t, "redis+cluster://"+strings.Join(cl.Addrs(), ","), &redisconn.Options{Replicas: 1, ReplicaTimeout: 10 * time.Second})
	script := setScript()
	for i := range 50 {
		key := "{" + strconv.Itoa(i) + "}"
		if err := c.WriteScript(t.Context(), script, []string{key}, "v").Err(); err != nil {
			t.Fatal(err)
		}
		if got := cl.MasterOf(key).Must("GET", key); got != "v" {
			t.Errorf("%s: %v", key, got)
		}
	}
	for deadline := time.Now().Add(20 * time.Second); ; { // it may learn of replicas later
		infos, err := c.Infos(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if slices.IndexFunc(cl.Nodes, func(n servertest.Redis) bool { return infos[n.Addr()]["role"] == "" }) < 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("%d of %d nodes are asked", len(infos), len(cl.Nodes))
			break
		}
	}
	plain := openWith(t, "redis+cluster://"+cl.Nodes[5].Addr(), nil)
	old := cl.MasterOf("k")
	survives(t, plain, "k", false, func() {
		old.Kill()
		cl.AwaitSwitch("k", old)
	})
}
