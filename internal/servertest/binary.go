// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package servertest

import (
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
)

// Need skips the test if a binary is not installed, and fails it under
// BELAY_REQUIRE_SERVERS=1.
func Need(t testing.TB, bins ...string) {
	t.Helper()
	for _, b := range bins {
		binary(t, spec{name: b, bins: []string{b}})
	}
}

func binary(t testing.TB, s spec) string {
	t.Helper()
	for _, name := range s.bins {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
		// Some kinds are installed beside what is in PATH: a pattern then.
		for _, path := range matches(name) {
			if _, err := exec.LookPath(path); err == nil {
				return path
			}
		}
	}
	if os.Getenv("BELAY_REQUIRE_SERVERS") == "1" {
		t.Fatalf("servertest: none of %q is installed, and BELAY_REQUIRE_SERVERS=1: run scripts/deps", s.bins)
	}
	t.Skipf("none of %q is installed", s.bins)
	return ""
}

func matches(pattern string) []string {
	found, _ := filepath.Glob(pattern)
	slices.Reverse(found) // the newest version
	return found
}

// credential is nil unless the test runs as root.
func credential(users []string) *syscall.Credential {
	if os.Getuid() != 0 {
		return nil
	}
	for _, name := range append(users, "nobody") {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	return nil
}

// directory is not t.TempDir, which other users cannot enter.
func directory(t testing.TB, cred *syscall.Credential) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "belay-servertest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if cred != nil {
		if err := os.Chown(dir, int(cred.Uid), int(cred.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
