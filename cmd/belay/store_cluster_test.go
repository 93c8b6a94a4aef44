// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/natsstore"
)

func TestStoreTellsWhichFlagIsWrong(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		flags storeFlags
		want  []string
	}{
		{"peers_without_a_name", storeFlags{peers: []string{"a:1", "b:1", "c:1"}}, []string{"--name, --cluster-listen and --peers"}},
		{"two_peers", storeFlags{name: "a", clusterListen: "10.0.0.1:1", peers: []string{"10.0.0.1:1", "b:1"}}, []string{"3 at least"}},
		{"certificate_without_key", storeFlags{tlsCert: empty}, []string{"--tls-cert and --tls-key"}},
		{"no_certificate_in_it", storeFlags{tlsCert: empty, tlsKey: empty}, []string{"--tls-cert, --tls-key"}},
		{"empty_password", storeFlags{passwordFile: empty}, []string{"--password-file", empty}},
		{"two_mistakes", storeFlags{passwordFile: filepath.Join(dir, "none"), peers: []string{"a:1"}}, []string{"--password-file", "--peers"}},
	} {
		tt.flags.dir, tt.flags.listen = dir, "127.0.0.1:0"
		err := runStore(t.Context(), &tt.flags, io.Discard, io.Discard)
		for _, want := range tt.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want %q", tt.name, err, want)
			}
		}
	}
}

// TestStoreServesAsThreePeers: three commands are one store with replicas.
func TestStoreServesAsThreePeers(t *testing.T) {
	dir := t.TempDir()
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte("open sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	peers := servertest.FreeAddrs(t, 3)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	said, ended := make(chan string, 3), make(chan error, 3)
	for i, addr := range peers {
		r, w := io.Pipe()
		go func() {
			line := make([]byte, 1024)
			n, _ := r.Read(line)
			said <- string(line[:n])
		}()
		name := string(rune('a' + i))
		go func() {
			err := runStore(ctx, &storeFlags{
				dir: filepath.Join(dir, name), listen: "127.0.0.1:0", name: name, clusterListen: addr, peers: peers,
				passwordFile: password, wait: 2 * time.Minute,
			}, w, io.Discard)
			_ = w.CloseWithError(io.EOF)
			ended <- err
		}()
	}
	var urls []string
	for range peers {
		line := <-said
		_, rest, ok := bytes.Cut([]byte(line), []byte("ready at "))
		if !ok {
			t.Fatalf("one said %q and ended: %v", line, <-ended)
		}
		url, _, _ := bytes.Cut(rest, []byte(","))
		urls = append(urls, string(url))
	}
	nc, err := natsstore.Dial(ctx, strings.Join(urls, ","), nats.UserInfo("belay", "open sesame"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	s, err := natsstore.Open(ctx, nc, &natsstore.Options{Replicas: 3, Buckets: 1, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Create(ctx, session.ID{Generation: 1}, session.Record{Rev: session.Rev{N: 1}, Expires: time.Now().Add(time.Hour)}); err != nil {
		t.Error(err)
	}
	cancel()
	for range peers {
		if err := <-ended; err != nil {
			t.Errorf("told to stop, one said: %v", err)
		}
	}
}
