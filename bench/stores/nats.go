// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/belay-ha/belay/bench/internal/peer"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/natsstore"
	"github.com/belay-ha/belay/session/natsstore/embedded"
	"github.com/belay-ha/belay/session/peerstore"
	"github.com/belay-ha/belay/session/peerstore/mesh"
)

// runServer is a server of our own in a process of its own: "nats" with a
// directory, and for a peer its name, address and those of all; or "peer" with
// name, address and those of all; or "size", which says what sessions take in
// memory.
func runServer(ctx context.Context, args []string, out io.Writer) error {
	switch {
	case len(args) == 3 && args[0] == "nats" || len(args) == 6 && args[0] == "nats":
		port, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		o := &embedded.Options{Port: port}
		if len(args) == 6 {
			o.Cluster = &embedded.Cluster{Name: args[3], Listen: args[4], Peers: strings.Split(args[5], ",")}
		}
		s, err := embedded.New(args[1], o)
		if err != nil {
			return err
		}
		go func() {
			<-s.Ready()
			fmt.Fprintln(out, "ready")
		}()
		return s.Run(ctx)
	case len(args) == 4 && args[0] == "peer":
		n, err := startNode(ctx, args[1], args[2], strings.Split(args[3], ","))
		if err != nil {
			return err
		}
		fmt.Fprintln(out, "ready")
		<-ctx.Done()
		n.stop()
		return nil
	case len(args) == 4 && args[0] == "size":
		size, err1 := strconv.Atoi(args[2])
		n, err2 := strconv.Atoi(args[3])
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		return sizeHere(ctx, args[1], size, n, out)
	}
	return fmt.Errorf("not a server: %q", args)
}

// child starts a server of our own; the returned function waits until it is ready.
func (b *bench) child(ctx context.Context, args ...string) (wait func() error, p *os.Process, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(self, append([]string{serverArg}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	b.defers(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return func() error {
		said := make(chan error, 1)
		go func() {
			line, err := bufio.NewReader(out).ReadString('\n')
			if err == nil && line != "ready\n" {
				err = errors.New(line)
			}
			said <- err
		}()
		select {
		case err := <-said:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Minute):
			return errors.New("a server of our own does not start")
		}
	}, cmd.Process, nil
}

func (b *bench) openNATS(ctx context.Context) error {
	addr, err := peer.FreeAddr()
	if err != nil {
		return err
	}
	dir := filepath.Join(b.dir, "nats")
	wait, _, err := b.child(ctx, "nats", dir, peer.Port(addr))
	if err != nil {
		return err
	}
	if err := wait(); err != nil {
		return err
	}
	if err := b.addNATS(ctx, "nats", addr, natsstore.Options{}); err != nil {
		return err
	}
	nc, err := natsstore.Dial(ctx, "nats://"+addr)
	if err != nil {
		return err
	}
	b.defers(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "raw"})
	if err != nil {
		return err
	}
	rec := record(encoded)
	value, revs := session.AppendRecord(nil, &rec), make([]uint64, workers)
	for w := range workers {
		if revs[w], err = kv.Put(ctx, strconv.Itoa(w), value); err != nil {
			return err
		}
	}
	b.add(&subject{name: "nats_raw", workers: workers, op: map[string]func(context.Context, int) error{
		"load": func(ctx context.Context, w int) error {
			_, err := kv.Get(ctx, strconv.Itoa(w))
			return err
		},
		"update": func(ctx context.Context, w int) error {
			revs[w], err = kv.Update(ctx, strconv.Itoa(w), value, revs[w])
			return err
		},
	}})
	name := ""
	b.sized = append(b.sized, sized{name: "nats", what: "server, streams", open: func(ctx context.Context, size int) (session.Store, func(), error) {
		name = fmt.Sprint("size", size)
		s, err := natsstore.Open(ctx, nc, &natsstore.Options{Name: name, Timeout: 30 * time.Second})
		return s, func() {}, err
	}, used: func(ctx context.Context) (sum int64, err error) {
		list := js.ListStreams(ctx)
		for info := range list.Info() {
			if strings.HasPrefix(info.Config.Name, "KV_"+name+"-") {
				sum += int64(info.State.Bytes)
			}
		}
		return sum, list.Err()
	}})
	return nil
}

func (b *bench) addNATS(ctx context.Context, name, addr string, o natsstore.Options) error {
	_, err := b.addServed(ctx, name, []string{addr}, func(at []string, _ bool) (session.Store, error) {
		nc, err := natsstore.Dial(ctx, "nats://"+at[0], nats.PingInterval(time.Minute)) // a ping is a trip
		if err != nil {
			return nil, err
		}
		b.defers(nc.Close)
		o.Timeout = 30 * time.Second
		return natsstore.Open(ctx, nc, &o)
	})
	return err
}

func (b *bench) openCluster(ctx context.Context) error {
	var clients, peers []string
	for range 3 {
		c, err1 := peer.FreeAddr()
		p, err2 := peer.FreeAddr()
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		clients, peers = append(clients, c), append(peers, p)
	}
	var waits []func() error
	for i := range peers {
		wait, _, err := b.child(ctx, "nats", filepath.Join(b.dir, fmt.Sprint("peer", i)), peer.Port(clients[i]), fmt.Sprint("peer", i), peers[i], strings.Join(peers, ","))
		if err != nil {
			return err
		}
		waits = append(waits, wait)
	}
	for _, wait := range waits {
		if err := wait(); err != nil {
			return err
		}
	}
	return b.addNATS(ctx, "nats_r3", clients[0], natsstore.Options{Replicas: 3})
}

// node is one of two nodes of peerstore.
type node struct {
	store *peerstore.Store
	stop  func()
}

func startNode(ctx context.Context, name, addr string, peers []string) (*node, error) {
	m, err := mesh.New(name, addr, peers, &mesh.Options{Wait: 30 * time.Second})
	if err != nil {
		return nil, err
	}
	meshCtx, stopMesh := context.WithCancel(context.WithoutCancel(ctx))
	meshDone := make(chan error, 1)
	go func() { meshDone <- m.Run(meshCtx) }()
	select {
	case <-m.Ready():
	case err := <-meshDone:
		stopMesh()
		return nil, err
	}
	nc, err := m.Connect()
	if err != nil {
		stopMesh()
		return nil, err
	}
	s, err := peerstore.New(name, nc, &peerstore.Options{HandOver: -1, MaxBytes: -1, Timeout: 30 * time.Second})
	if err != nil {
		stopMesh()
		return nil, err
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- s.Run(run) }()
	n := &node{store: s, stop: func() {
		stop()
		<-done
		nc.Close()
		stopMesh()
		<-meshDone
	}}
	select {
	case <-s.Ready():
		return n, nil
	case err := <-done:
		done <- nil
		n.stop()
		return nil, err
	}
}

func (b *bench) openPeers(ctx context.Context) error {
	a, err1 := peer.FreeAddr()
	c, err2 := peer.FreeAddr()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	wait, _, err := b.child(ctx, "peer", "b", c, a+","+c)
	if err != nil {
		return err
	}
	n, err := startNode(ctx, "a", a, []string{a, c})
	if err != nil {
		return err
	}
	b.defers(n.stop)
	if err := wait(); err != nil {
		return err
	}
	if err := n.meets(ctx); err != nil {
		return err
	}
	b.sizedInChild("peer")
	return b.addStore(ctx, "peer", n.store, workers)
}

// meets waits for the other node.
func (n *node) meets(ctx context.Context) error {
	for len(n.store.Stats().Nodes) < 2 {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}
