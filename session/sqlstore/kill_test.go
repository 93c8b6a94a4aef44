// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/sqlstore"
)

// acked is what one writer was told had been written.
type acked struct {
	rev, epoch       uint64
	created, deleted []session.ID
}

// writers are a process that writes, and what it was told.
type writers struct {
	t       *testing.T
	kind    string
	address string
	prefix  string
	round   int
	cmd     *exec.Cmd
	ended   chan struct{} // closed when the last line was read

	mu    sync.Mutex
	more  *sync.Cond
	lines int // of this round
	bad   string
	acked [childWriters]acked
}

// start starts a process.
func (w *writers) start() {
	w.t.Helper()
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	w.round++
	cmd := exec.Command(self, childArg, w.kind, w.address, w.prefix, strconv.Itoa(w.round))
	cmd.Stderr = w.t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = cmd.Process.Kill() })
	ended := make(chan struct{})
	w.cmd, w.lines, w.ended, w.more = cmd, 0, ended, sync.NewCond(&w.mu)
	go func() {
		defer close(ended)
		for in := bufio.NewScanner(out); in.Scan(); {
			w.note(in.Text())
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.lines = -1
		w.more.Broadcast()
	}()
}

// note reads a line.
func (w *writers) note(line string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.more.Broadcast()
	var what string
	var i int
	var v uint64
	if _, err := fmt.Sscan(line, &what, &i, &v); err != nil {
		w.bad = line
		return
	}
	w.lines++
	a := &w.acked[i]
	switch what {
	case "update":
		a.rev = v
	case "epoch":
		a.epoch = v
	case "create":
		a.created = append(a.created, sideID(i, w.round, int(v)))
	case "delete":
		a.deleted = append(a.deleted, sideID(i, w.round, int(v)))
	}
}

// await waits for n writes more that are acknowledged.
func (w *writers) await(n int) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for end := w.lines + n; w.lines < end; w.more.Wait() {
		if w.lines < 0 || w.bad != "" {
			w.t.Fatalf("the process has ended by itself, or said %q", w.bad)
		}
	}
}

// kill ends the process by SIGKILL and reads to the last line that it wrote.
func (w *writers) kill() {
	w.t.Helper()
	if err := w.cmd.Process.Kill(); err != nil {
		w.t.Fatal(err)
	}
	<-w.ended
	_ = w.cmd.Wait()
}

// verify looks for every write that was acknowledged.
func (w *writers) verify(s *sqlstore.Store) {
	w.t.Helper()
	for i := range w.acked {
		w.acked[i].verify(w.t, s, i)
	}
}

func (a *acked) verify(t *testing.T, s *sqlstore.Store, w int) {
	t.Helper()
	ctx := t.Context()
	rec, err := s.Load(ctx, mainID(w))
	if errors.Is(err, session.ErrNotFound) && a.rev == 0 {
		return // it was killed before this writer was told anything
	}
	if err != nil {
		t.Fatalf("writer %d: %v", w, err)
	}
	// One write more than acknowledged may have happened: nobody was told.
	if rec.Rev.N < a.rev {
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

// killed kills the process that writes twice, and the server once under it, if
// there is one.
func killed(t *testing.T, kind, address string, server *servertest.Process) {
	db, err := connectTo(kind, address)
	w := &writers{t: t, kind: kind, address: address, prefix: prefix()}
	s := open(t, opened(t)(db, err), &sqlstore.Options{Prefix: w.prefix})
	for range 2 {
		w.start()
		w.await(300)
		w.kill()
		w.verify(s)
	}
	if server == nil {
		return
	}
	w.start()
	w.await(300)
	server.Restart() // it was killed while they wrote
	w.await(300)
	w.kill()
	w.verify(s)
}

func TestKilledWritersAndServersLoseNothing(t *testing.T) {
	t.Parallel()
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		p := servertest.StartPostgres(t)
		killed(t, "postgres", p.URL("postgres"), p.Process)
	})
	t.Run("mariadb", func(t *testing.T) {
		t.Parallel()
		m := servertest.StartMariaDB(t)
		killed(t, "mysql", m.DSN("belay"), m.Process)
	})
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		killed(t, "sqlite", filepath.Join(t.TempDir(), "sessions.db"), nil)
	})
}
