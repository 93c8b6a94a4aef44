// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package embedded_test

import (
	"bufio"
	"context"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/natsstore"
)

// startChild starts a store process and returns how to kill it.
func startChild(t *testing.T, dir, port string) (addr string, kill func()) {
	t.Helper()
	addr, p := startProcess(t, dir, port)
	return addr, p.kill
}

// process is a store process.
type process struct {
	*os.Process
	kill func() // SIGKILL, and wait for its end
}

func startProcess(t *testing.T, dir, port string, peer ...string) (addr string, p process) {
	t.Helper()
	ready, p := beginProcess(t, dir, port, peer...)
	return ready(), p
}

// beginProcess starts a store process; addr waits until it is ready.
func beginProcess(t *testing.T, dir, port string, peer ...string) (addr func() string, p process) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, append([]string{childArg, dir, port}, peer...)...)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	kill := func() {
		once.Do(func() {
			_ = cmd.Process.Kill() // SIGKILL
			_ = cmd.Wait()
		})
	}
	t.Cleanup(kill)
	return func() string {
		t.Helper()
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatalf("store process did not start: %v", err)
		}
		return strings.TrimSpace(line)
	}, process{cmd.Process, kill}
}

func TestFrozenProcessDoesNotOutlastTheDeadline(t *testing.T) {
	addr, p := startProcess(t, t.TempDir(), "0")
	nc, err := natsstore.Dial(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	store, err := natsstore.Open(t.Context(), nc, nil)
	if err != nil {
		t.Fatal(err)
	}
	id, rec := session.ID{Generation: 1}, session.Record{Rev: session.Rev{N: 1}, Expires: time.Now().Add(time.Hour)}
	if err := store.Create(t.Context(), id, rec); err != nil {
		t.Fatal(err)
	}
	servertest.Freeze(t, p.Process)
	second := rec
	second.Rev = rec.Rev.Next()
	for name, call := range map[string]func(ctx context.Context) error{
		"load":   func(ctx context.Context) error { _, err := store.Load(ctx, id); return err },
		"update": func(ctx context.Context) error { return store.Update(ctx, id, second, rec.Rev) },
		"delete": func(ctx context.Context) error {
			return store.Delete(ctx, session.ID{Generation: 2}, session.ID{Generation: 3})
		},
		"ping": store.Ping,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		done := make(chan error, 1)
		go func() { done <- call(ctx) }()
		select {
		case err := <-done:
			if !errors.Is(err, session.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: got %v, want ErrUnavailable and the deadline", name, err)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("%s hangs on a frozen server", name)
		}
		cancel()
	}
	if err := p.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := store.Load(ctx, id); err != nil {
		t.Errorf("load after the thaw: %v", err)
	}
}

func TestKilledProcessLosesNoAcknowledgedWrite(t *testing.T) {
	dir := t.TempDir()
	addr, kill := startChild(t, dir, "0")
	nc, err := natsstore.Dial(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	store, err := natsstore.Open(t.Context(), nc, nil)
	if err != nil {
		t.Fatal(err)
	}

	const writers, enough = 8, 1000
	var acked atomic.Int64
	var last [writers]session.Rev // of each writer's session, as acknowledged
	deleted := make([][]session.ID, writers)
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	idOf := func(w int, n byte) session.ID {
		return session.ID{Generation: byte(w), Hash: [20]byte{byte(w), n, 19: byte(w)}}
	}
	for w := range writers {
		wg.Go(func() {
			rec := session.Record{Rev: session.Rev{N: 1}, Expires: time.Now().Add(time.Hour)}
			if store.Create(ctx, idOf(w, 0), rec) != nil {
				return
			}
			last[w] = rec.Rev
			for ctx.Err() == nil {
				if rec.Rev.N%20 == 0 && len(deleted[w]) < 200 { // a log-out now and then
					id := idOf(w, byte(len(deleted[w])+1))
					if store.Create(ctx, id, rec) != nil || store.Delete(ctx, id) != nil {
						return
					}
					deleted[w] = append(deleted[w], id)
				}
				ifRev := rec.Rev
				rec.Rev = rec.Rev.Next()
				rec.Attrs = rec.Attrs.With("n", []byte(strconv.FormatUint(rec.Rev.N, 10)))
				if store.Update(ctx, idOf(w, 0), rec, ifRev) != nil {
					return
				}
				last[w] = rec.Rev
				if acked.Add(1) == enough {
					kill() // while the other writers are at it
					cancel()
				}
			}
		})
	}
	wg.Wait()
	if acked.Load() < enough {
		t.Fatalf("only %d writes were acknowledged", acked.Load())
	}

	u, err := url.Parse(addr)
	if err != nil {
		t.Fatal(err)
	}
	startChild(t, dir, u.Port())
	ctx, cancel2 := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel2()
	for w := range writers {
		rec, err := store.Load(ctx, idOf(w, 0)) // the connection heals by itself
		if err != nil {
			t.Fatalf("writer %d: load after the restart: %v", w, err)
		}
		// One write more than acknowledged may have happened: its answer was lost.
		if rec.Rev != last[w] && rec.Rev != last[w].Next() {
			t.Errorf("writer %d: revision %v after the restart, %v was acknowledged", w, rec.Rev, last[w])
		}
		if v, _ := rec.Attrs.Get("n"); rec.Rev.N > 1 && string(v) != strconv.FormatUint(rec.Rev.N, 10) {
			t.Errorf("writer %d: value %q at revision %v", w, v, rec.Rev)
		}
		for _, id := range deleted[w] {
			if _, err := store.Load(ctx, id); !errors.Is(err, session.ErrNotFound) {
				t.Errorf("writer %d: a deleted session is back: %v", w, err)
			}
		}
	}
}
