// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package pebblestore_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/pebblestore"
)

// acked is what one writer was told had been written.
type acked struct {
	rev, epoch       uint64
	created, deleted []session.ID
}

// startChild starts a process that has dir open and writes.
func startChild(t *testing.T, dir string, round int) (cmd *exec.Cmd, lines *bufio.Scanner) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(self, childArg, dir, strconv.Itoa(round))
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	lines = bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("the process did not open its store")
	}
	return cmd, lines
}

func TestKilledProcessLosesNoAcknowledgedWrite(t *testing.T) {
	dir := t.TempDir()
	var writers [childWriters]acked
	for round := 1; round <= 3; round++ { // also what is left of a crash after a crash
		cmd, lines := startChild(t, dir, round)
		n := 0
		for lines.Scan() { // to the last line that it wrote before it died
			if n++; n == 1500 {
				if err := cmd.Process.Kill(); err != nil { // SIGKILL
					t.Fatal(err)
				}
			}
			var what string
			var w int
			var v uint64
			if _, err := fmt.Sscan(lines.Text(), &what, &w, &v); err != nil {
				t.Fatalf("line %q: %v", lines.Text(), err)
			}
			a := &writers[w]
			switch what {
			case "update":
				a.rev = v
			case "epoch":
				a.epoch = v
			case "create":
				a.created = append(a.created, sideID(w, round, int(v)))
			case "delete":
				a.deleted = append(a.deleted, sideID(w, round, int(v)))
			}
		}
		_ = cmd.Wait()
		if n < 1500 {
			t.Fatalf("only %d writes were acknowledged", n)
		}
		s, err := pebblestore.Open(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Check(); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		for w := range writers {
			writers[w].verify(t, s, w)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func (a *acked) verify(t *testing.T, s *pebblestore.Store, w int) {
	t.Helper()
	ctx := t.Context()
	rec, err := s.Load(ctx, mainID(w))
	if err != nil {
		t.Fatalf("writer %d: %v", w, err)
	}
	// One write more than acknowledged may have happened: nobody was told.
	if rec.Rev.N != a.rev && rec.Rev.N != a.rev+1 {
		t.Errorf("writer %d: revision %d, %d was acknowledged", w, rec.Rev.N, a.rev)
	}
	a.rev = rec.Rev.N
	if v, _ := rec.Attrs.Get("n"); string(v) != strconv.FormatUint(rec.Rev.N, 10) {
		t.Errorf("writer %d: value %q at revision %d", w, v, rec.Rev.N)
	}
	for _, id := range a.deleted {
		if _, err := s.Load(ctx, id); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("writer %d: a deleted session is back: %v", w, err)
		}
	}
	entries, err := s.Entries(ctx, ownerOf(w))
	if err != nil {
		t.Fatal(err)
	}
	lost, unlisted := 0, 0
	for _, id := range a.created {
		if id.Hash[15]%2 == 0 {
			continue // deleted, or about to be
		}
		if _, err := s.Load(ctx, id); err != nil {
			lost++
		}
		if !slices.ContainsFunc(entries, func(e session.Entry) bool { return e.ID == id }) {
			unlisted++
		}
	}
	if lost+unlisted > 0 {
		t.Errorf("writer %d: of %d sessions %d are lost, and the owner's index lacks %d", w, len(a.created), lost, unlisted)
	}
	if epoch, err := s.Epoch(ctx, ownerOf(w)); err != nil || epoch < a.epoch {
		t.Errorf("writer %d: epoch %d, %v; %d was acknowledged", w, epoch, err, a.epoch)
	}
}

func TestSecondProcessIsToldWhoHasTheDirectory(t *testing.T) {
	dir := t.TempDir()
	cmd, lines := startChild(t, dir, 1)
	_, err := pebblestore.Open(dir, nil)
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), fmt.Sprintf("in use by process %d: stop it", cmd.Process.Pid)) {
		t.Errorf("got %v", err)
	}
	if !lines.Scan() { // the first is none the worse
		t.Error("the process that has the directory has stopped")
	}
	_ = cmd.Process.Kill()
	for lines.Scan() {
	}
	_ = cmd.Wait()
	open(t, dir, nil) // the file with the number of a dead process keeps nobody out
}
