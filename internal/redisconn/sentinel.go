// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisconn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

const (
	askEvery   = 500 * time.Millisecond // who is the master
	askTimeout = time.Second
	askBuffer  = 4 << 10
)

// sentinels are asked who the master is. One of them alone is not believed: it may
// not have heard of the last fail-over, while the old master is up again, and says
// that it is one. The highest epoch among the answers of a majority counts, and
// never one lower than was seen before.
type sentinels struct {
	master  string
	addrs   []string
	clients []rueidis.Client

	mu    sync.Mutex
	epoch uint64
}

func openSentinels(master string, o rueidis.ClientOption, opts Options) *sentinels {
	s := &sentinels{master: master, addrs: o.InitAddress, clients: make([]rueidis.Client, len(o.InitAddress))}
	o.Username, o.Password, o.SelectDB = opts.SentinelUser, opts.SentinelPassword, 0
	o.ReadBufferEachConn, o.WriteBufferEachConn = askBuffer, askBuffer
	var wg sync.WaitGroup
	for i, addr := range s.addrs {
		o.InitAddress = []string{addr}
		option := o
		wg.Go(func() {
			// It is good even if the first dial fails.
			s.clients[i], _ = rueidis.NewClient(option)
		})
	}
	wg.Wait()
	return s
}

func (s *sentinels) close() {
	for _, c := range s.clients {
		if c != nil {
			c.Close()
		}
	}
}

// opinion is one sentinel's answer.
type opinion struct {
	addr  string
	epoch uint64
	err   error
}

// ask returns the address of the master.
func (s *sentinels) ask(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	opinions := make([]opinion, len(s.clients))
	var wg sync.WaitGroup
	for i, c := range s.clients {
		wg.Go(func() {
			opinions[i] = s.askOne(ctx, c)
			if err := opinions[i].err; err != nil {
				opinions[i].err = fmt.Errorf("%s: %w", s.addrs[i], err)
			}
		})
	}
	wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	addr, epoch, err := decide(opinions, s.epoch)
	if err == nil {
		s.epoch = epoch
	}
	return addr, err
}

func (s *sentinels) askOne(ctx context.Context, c rueidis.Client) opinion {
	if c == nil {
		return opinion{err: errors.New("no client could be made")}
	}
	m, err := c.Do(ctx, c.B().Arbitrary("SENTINEL", "MASTER", s.master).Build()).AsStrMap()
	if err != nil {
		return opinion{err: err}
	}
	epoch, err := strconv.ParseUint(m["config-epoch"], 10, 64)
	if err != nil || m["ip"] == "" || m["port"] == "" {
		return opinion{err: errors.New("its answer names no address and epoch")}
	}
	return opinion{addr: net.JoinHostPort(m["ip"], m["port"]), epoch: epoch}
}

// decide is the master by the opinions of a majority, if none of a later epoch was
// believed before.
func decide(opinions []opinion, seen uint64) (addr string, epoch uint64, err error) {
	answers := 0
	var errs []error
	for _, o := range opinions {
		if o.err != nil {
			errs = append(errs, o.err)
			continue
		}
		answers++
		if addr == "" || o.epoch > epoch {
			addr, epoch = o.addr, o.epoch
		}
	}
	switch {
	case answers*2 <= len(opinions):
		return "", 0, fmt.Errorf("%d of %d sentinels answer, a majority is needed: %w", answers, len(opinions), errors.Join(errs...))
	case epoch < seen:
		return "", 0, fmt.Errorf("the sentinels that answer are at epoch %d, and a later fail-over was seen: %d", epoch, seen)
	}
	return addr, epoch, nil
}

// follow keeps the client on the master until ctx ends. A kick makes it look at
// once, and make the connections anew.
func (c *Conn) follow(ctx context.Context) {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		anew := false
		select {
		case <-ctx.Done():
			return
		case <-c.kick:
			anew = true
		case <-tick.C:
		}
		addr, err := c.sentinels.ask(ctx)
		if err != nil || addr == c.addr && !anew {
			continue
		}
		if fresh := c.masterAt(ctx, addr); fresh != nil {
			c.addr = addr
			c.swap(fresh)
		}
	}
}

// masterAt is a client of the node at an address, nil if that does not say that it
// is a master: not yet, or no more.
func (c *Conn) masterAt(ctx context.Context, addr string) rueidis.Client {
	o := c.option
	o.InitAddress = []string{addr}
	client, err := rueidis.NewClient(o)
	if client == nil {
		return nil
	}
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		role, e := client.Do(ctx, client.B().Role().Build()).ToArray()
		var name string
		if e == nil && len(role) > 0 {
			name, _ = role[0].ToString()
		}
		if name == "master" {
			return client
		}
	}
	client.Close()
	return nil
}

// swap gives later calls another client.
func (c *Conn) swap(fresh rueidis.Client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	unwanted := fresh
	if !c.closed {
		c.client, unwanted = fresh, c.client
	}
	c.retired.Go(unwanted.Close)
}

// openMaster asks until there is a master, or ctx ends.
func (c *Conn) openMaster(ctx context.Context) (rueidis.Client, error) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		addr, err := c.sentinels.ask(ctx)
		if err == nil {
			o := c.option
			o.InitAddress = []string{addr}
			c.addr = addr
			client, e := rueidis.NewClient(o)
			if e == nil {
				return client, nil
			}
			if client != nil {
				client.Close()
			}
			err = fmt.Errorf("%s: %w", addr, e)
		}
		if c.advice(err) != nil || wait(ctx, pause) != nil {
			return nil, err
		}
	}
}
