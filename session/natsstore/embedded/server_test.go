// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package embedded_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/session/natsstore/embedded"
)

// run runs a server whose Run must fail, and returns the error.
func run(t *testing.T, dir string, opts *embedded.Options) error {
	t.Helper()
	srv, err := embedded.New(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err = srv.Run(ctx)
	if err == nil {
		t.Fatal("Run returned nil")
	}
	if srv.ClientURL() != "" {
		t.Error("an address is told although nothing listens")
	}
	return err
}

func TestBusyPortIsNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	got := run(t, t.TempDir(), &embedded.Options{Port: port})
	if !strings.Contains(got.Error(), l.Addr().String()) || !strings.Contains(got.Error(), "choose another port") {
		t.Errorf("got %v", got)
	}
}

func TestDirectoryInUseNamesTheProcess(t *testing.T) {
	dir := t.TempDir()
	startChild(t, dir, "0")
	got := run(t, dir, nil)
	if !strings.Contains(got.Error(), "in use by process") || !strings.Contains(got.Error(), dir) {
		t.Errorf("got %v", got)
	}
	pid, err := os.ReadFile(filepath.Join(dir, "belay.lock"))
	if err != nil {
		t.Fatal(err)
	}
	n := strings.TrimSpace(string(pid))
	if _, err := strconv.Atoi(n); err != nil || !strings.Contains(got.Error(), n) {
		t.Errorf("process %q is not named in %v", n, got)
	}
}

func TestUnusableDirectoryIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := run(t, file, nil); !strings.Contains(got.Error(), file) {
		t.Errorf("a file instead of a directory: got %v", got)
	}
}

func TestRunEndsWithItsContextAndFreesTheDirectory(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		srv, err := embedded.New(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- srv.Run(ctx) }()
		<-srv.Ready()
		cancel()
		if err := <-done; err != nil {
			t.Fatalf("Run returned %v when its context ended, want nil", err)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]embedded.Options{
		"port_70000": {Port: 70000}, "negative_port": {Port: -1}, "negative_size": {MaxBytes: -1}, "huge_record": {MaxRecord: 1 << 30},
	} {
		if _, err := embedded.New("dir", &o); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if _, err := embedded.New("", nil); err == nil {
		t.Error("no directory was accepted")
	}
}
