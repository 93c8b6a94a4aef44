// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisfront

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// sentinel asks one sentinel again and again, and listens to what it publishes.
type sentinel struct {
	asker
	group string
	nudge chan struct{} // asks at once
	tell  func(report)
	pause func() time.Duration
}

// run asks until ctx ends.
func (s *sentinel) run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { s.listen(ctx) })
	for ok := true; ok; ok = sleep(ctx, s.pause(), s.nudge) {
		r := s.report(ctx)
		if ctx.Err() != nil {
			break
		}
		s.tell(r)
	}
	s.close()
	wg.Wait()
}

func (s *sentinel) report(ctx context.Context) report {
	r := report{at: time.Now()}
	// One write, so that no change falls between the answers.
	m, err := s.ask(ctx,
		[]string{"SENTINEL", "MASTER", s.group},
		[]string{"SENTINEL", "GET-MASTER-ADDR-BY-NAME", s.group},
		[]string{"SENTINEL", "REPLICAS", s.group})
	if err != nil {
		return report{at: r.at, err: err}
	}
	if err := r.read(m[0], m[1], m[2]); err != nil {
		return report{at: r.at, err: err}
	}
	return r
}

func (r *report) read(master, addr, replicas rueidis.RedisMessage) error {
	about, err := master.AsStrMap()
	if err != nil {
		return fmt.Errorf("its answer to SENTINEL MASTER is none: %w", err)
	}
	// While it promotes a replica, this names the new master and the former
	// the old one.
	where, err := addr.AsStrSlice()
	if err != nil || len(where) != 2 {
		return errors.New("its answer to SENTINEL GET-MASTER-ADDR-BY-NAME is none")
	}
	r.master = net.JoinHostPort(where[0], where[1])
	if r.epoch, err = strconv.ParseUint(about["config-epoch"], 10, 64); err != nil {
		return fmt.Errorf("its config-epoch %q is no number", about["config-epoch"])
	}
	ms, err := strconv.Atoi(about["down-after-milliseconds"])
	if err != nil {
		return fmt.Errorf("its down-after-milliseconds %q is no number", about["down-after-milliseconds"])
	}
	r.downAfter = time.Duration(ms) * time.Millisecond
	if r.master == net.JoinHostPort(about["ip"], about["port"]) {
		r.down, r.failing = flags(about["flags"])
	}
	list, err := replicas.ToArray()
	if err != nil {
		return fmt.Errorf("its answer to SENTINEL REPLICAS is none: %w", err)
	}
	for _, m := range list {
		about, err := m.AsStrMap()
		if err != nil {
			return fmt.Errorf("its answer to SENTINEL REPLICAS is none: %w", err)
		}
		down, _ := flags(about["flags"])
		down = down || strings.Contains(about["flags"], "disconnected")
		r.replicas = append(r.replicas, replicaReport{net.JoinHostPort(about["ip"], about["port"]), down})
	}
	return nil
}

func flags(list string) (down, failing bool) {
	for f := range strings.SplitSeq(list, ",") {
		switch f {
		case "s_down":
			down = true
		case "o_down", "failover_in_progress":
			failing = true
		}
	}
	return down, failing
}

// listen nudges at every event of the sentinel: what it means, the question tells.
func (s *sentinel) listen(ctx context.Context) {
	for {
		if c, err := s.open(); err == nil {
			_ = c.Receive(ctx, c.B().Psubscribe().Pattern("*").Build(), func(rueidis.PubSubMessage) { wake(s.nudge) })
		}
		if !sleep(ctx, calm, nil) {
			return
		}
	}
}

// wake nudges whoever waits, once.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
