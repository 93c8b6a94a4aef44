// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belay-ha/belay/session/natsstore"
)

func TestStoreNamesBusyPortAndFlag(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	addr := l.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	err = runStore(t.Context(), &storeFlags{dir: t.TempDir(), listen: addr}, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), port) || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("got %v; want an error that names port %s and the flag", err, port)
	}
}

func TestStoreRefusesBadAddress(t *testing.T) {
	for _, listen := range []string{"4222", "127.0.0.1", "127.0.0.1:nats", "127.0.0.1:70000"} {
		err := runStore(t.Context(), &storeFlags{dir: t.TempDir(), listen: listen}, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), "--listen") {
			t.Errorf("%s: got %v, want an error about --listen", listen, err)
		}
	}
}

// TestStoreServes: the command's store is one that natsstore can use.
func TestStoreServes(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	said, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := runStore(ctx, &storeFlags{dir: filepath.Join(t.TempDir(), "data"), listen: "127.0.0.1:0"}, out, io.Discard)
		_ = out.CloseWithError(io.EOF)
		ended <- err
	}()
	line := make([]byte, 1024)
	n, _ := said.Read(line)
	_, rest, ok := bytes.Cut(line[:n], []byte("ready at "))
	if !ok {
		t.Fatalf("it said %q and ended: %v", line[:n], <-ended)
	}
	url, _, _ := bytes.Cut(rest, []byte(","))
	nc, err := natsstore.Dial(ctx, string(url))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := natsstore.Open(ctx, nc, nil); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("told to stop, it said: %v", err)
	}
}
