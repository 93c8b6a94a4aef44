// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisconn_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/belay-ha/belay/internal/redisconn"
	"github.com/belay-ha/belay/internal/servertest"
)

// TestCallsWaitForWhatPasses: what a server refuses for now is asked for again, and
// who gives up says why.
func TestCallsWaitForWhatPasses(t *testing.T) {
	for _, tt := range []struct {
		refusal  string
		do, undo []string
		call     func(rueidis.Builder) rueidis.Completed
	}{
		{"READONLY", []string{"REPLICAOF 127.0.0.1 1"}, []string{"REPLICAOF NO ONE"}, set("2")},
		{"MASTERDOWN", []string{"CONFIG SET replica-serve-stale-data no", "REPLICAOF 127.0.0.1 1"}, []string{"REPLICAOF NO ONE"}, get},
		{"NOREPLICAS", []string{"CONFIG SET min-replicas-to-write 1"}, []string{"CONFIG SET min-replicas-to-write 0"}, set("2")},
	} {
		t.Run(tt.refusal, func(t *testing.T) {
			r := servertest.StartRedis(t)
			c := open(t, r.URL())
			for _, command := range tt.do {
				if got := r.Command(command); got != "+OK" {
					t.Fatal(got)
				}
			}
			var err error
			for d := 100 * time.Millisecond; d < 20*time.Second; d *= 2 { // a slow machine may not even ask in time
				err = c.Do(within(t, d), tt.call).Err()
				if err == nil || strings.Contains(err.Error(), tt.refusal) {
					break
				}
			}
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), tt.refusal) || !strings.Contains(err.Error(), r.Addr()) {
				t.Errorf("got %v, want the deadline, the server and %s", err, tt.refusal)
			}
			done := make(chan redisconn.Result, 1)
			go func() { done <- c.Do(within(t, 20*time.Second), tt.call) }()
			for _, command := range tt.undo {
				if got := r.Command(command); got != "+OK" {
					t.Fatal(got)
				}
			}
			if res := <-done; res.Err() != nil || res.Repeated {
				t.Errorf("when it had passed: %v, repeated %v; a refused call was not carried out", res.Err(), res.Repeated)
			}
		})
	}
}

func TestCallsWaitForAServerThatLoads(t *testing.T) {
	// It takes 2 ms for each key, and answers meanwhile.
	r := servertest.StartRedis(t, "--appendonly", "yes", "--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024")
	c := open(t, r.URL())
	for i := range 500 {
		if err := c.Do(t.Context(), func(b rueidis.Builder) rueidis.Completed {
			return b.Set().Key("k" + strconv.Itoa(i)).Value(strings.Repeat("x", 100)).Build()
		}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Do(t.Context(), set("1")).Err(); err != nil {
		t.Fatal(err)
	}
	r.Kill()
	done := make(chan redisconn.Result, 1)
	go func() { done <- c.Do(within(t, time.Minute), get) }()
	r.Restart()
	res := <-done
	if v, err := res.ToString(); res.Err() != nil || err != nil || v != "1" {
		t.Errorf("got %q, %v, %v", v, err, res.Err())
	}
}

func TestCallsWithoutADeadlineEnd(t *testing.T) {
	r := servertest.StartRedis(t)
	opts := &redisconn.Options{Timeout: 200 * time.Millisecond, Replicas: 1}
	c := openWith(t, r.URL(), opts)
	r.Freeze()
	defer r.Thaw()
	for name, call := range map[string]func() error{
		"open": func() error { _, err := redisconn.Open(context.Background(), r.URL(), opts); return err },
		"open_by_sentinels": func() error {
			_, err := redisconn.Open(context.Background(), "redis+sentinel://"+r.Addr()+"/main", opts)
			return err
		},
		"do":    func() error { return c.Do(context.Background(), get).Err() },
		"write": func() error { return c.Write(context.Background(), set("1")).Err() },
	} {
		ended := make(chan error, 1)
		go func() { ended <- call() }()
		select {
		case err := <-ended:
			if err == nil || !strings.Contains(err.Error(), r.Addr()) {
				t.Errorf("%s: got %v, want an error with the server", name, err)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("%s: it goes on for ever", name)
		}
	}
}

// TestWaitInAClusterIsForTheNodeThatWrote: the replica of that one is stopped; those
// of the others have nothing to wait for.
func TestWaitInAClusterIsForTheNodeThatWrote(t *testing.T) {
	cl := servertest.StartCluster(t, 0)
	c := openWith(t, "redis+cluster://"+strings.Join(cl.Addrs(), ","), &redisconn.Options{Replicas: 1, ReplicaTimeout: 50 * time.Millisecond})
	master := strconv.Itoa(cl.MasterOf("k").Port())
	stopped := 0
	for _, n := range cl.Nodes {
		if i := n.Info("replication"); i["role"] == "slave" && i["master_port"] == master {
			n.Freeze()
			defer n.Thaw()
			stopped++
		}
	}
	if stopped != 1 {
		t.Fatalf("%d replicas stopped, want 1", stopped)
	}
	script := setScript()
	for range 10 {
		for name, err := range map[string]error{
			"command": c.Write(within(t, 20*time.Second), set("1")).Err(),
			"script":  c.WriteScript(within(t, 20*time.Second), script, []string{"k"}, "1").Err(),
		} {
			if !errors.Is(err, redisconn.ErrReplicas) || !strings.Contains(err.Error(), "0 of 1") {
				t.Fatalf("%s: got %v, want ErrReplicas", name, err)
			}
		}
	}
	// A slot moves there, and the client does not know. Where it was, the replica
	// is well.
	to, key := cl.MasterOf("k"), ""
	for i := 0; key == ""; i++ {
		if k := strconv.Itoa(i); cl.MasterOf(k) != to {
			key = k
		}
	}
	from := cl.MasterOf(key)
	slot := fmt.Sprint(from.Must("CLUSTER", "KEYSLOT", key))
	there, here := to.Must("CLUSTER", "MYID").(string), from.Must("CLUSTER", "MYID").(string)
	to.Must("CLUSTER", "SETSLOT", slot, "IMPORTING", here)
	to.Must("CLUSTER", "SETSLOT", slot, "NODE", there)
	from.Must("CLUSTER", "SETSLOT", slot, "NODE", there)
	err := c.Write(within(t, 20*time.Second), func(b rueidis.Builder) rueidis.Completed { return b.Set().Key(key).Value("1").Build() }).Err()
	if !errors.Is(err, redisconn.ErrReplicas) || to.Must("GET", key) != "1" {
		t.Errorf("got %v, want ErrReplicas", err)
	}
}

// TestOpenWaitsForAPromotion: the address of a server whose role is about to change.
func TestOpenWaitsForAPromotion(t *testing.T) {
	r := servertest.StartRedis(t)
	if got := r.Command("REPLICAOF 127.0.0.1 1"); got != "+OK" {
		t.Fatal(got)
	}
	opened := make(chan error, 1)
	go func() {
		c, err := redisconn.Open(within(t, time.Minute), r.URL(), nil)
		if err == nil {
			c.Close()
		}
		opened <- err
	}()
	for asked := false; !asked; { // what it is, by a client that has a name
		for line := range strings.SplitSeq(r.Must("CLIENT", "LIST").(string), "\n") {
			asked = asked || strings.Contains(line, "name=belay ") && strings.Contains(line, "cmd=info")
		}
		select {
		case err := <-opened:
			t.Fatalf("it did not wait: %v", err)
		default:
		}
	}
	if got := r.Command("REPLICAOF NO ONE"); got != "+OK" {
		t.Fatal(got)
	}
	if err := <-opened; err != nil {
		t.Errorf("after the promotion: %v", err)
	}
}

// TestSentinelsHaveAUserOfTheirOwn: what the address has is for the servers.
func TestSentinelsHaveAUserOfTheirOwn(t *testing.T) {
	g := servertest.StartGroup(t, servertest.GroupOptions{Args: []string{"--requirepass", "secret"}})
	for _, s := range g.Sentinels {
		s.Must("ACL", "SETUSER", "ask", "on", ">right", "+@all")
	}
	url := "redis+sentinel://:secret@" + strings.Join(g.Addrs(), ",") + "/" + servertest.SentinelName
	c := openWith(t, url, &redisconn.Options{SentinelUser: "ask", SentinelPassword: "right"})
	const asks = ".(*Conn).follow"
	stacks := func() string { b := make([]byte, 1<<20); return string(b[:runtime.Stack(b, true)]) }
	for end := time.Now().Add(20 * time.Second); !strings.Contains(stacks(), asks); runtime.Gosched() { // it may not have run yet
		if time.Now().After(end) {
			t.Fatal("nobody asks the sentinels: the test proves nothing")
		}
	}
	c.Close()
	if strings.Contains(stacks(), asks) {
		t.Error("after Close somebody still asks the sentinels")
	}
	refuses(t, url, &redisconn.Options{SentinelUser: "ask", SentinelPassword: "wrong"}, "WRONGPASS", g.Addrs()[0])
}
