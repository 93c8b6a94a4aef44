// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway"
	"github.com/belay-ha/belay/server/internal/gateway/edge"
)

// takeOverVar tells a process that it replaces another, and what it is given.
const takeOverVar = "BELAY_TAKE_OVER"

// takeOver is what one process tells the next. The sockets are its first files,
// in this order; one more is the pipe on which it says that it is ready.
type takeOver struct {
	Sockets []string               `json:"sockets"`
	Orders  []gateway.Order        `json:"orders"`
	Health  []gateway.ServerHealth `json:"health"`
}

const ready = "ready\n"

// Inherited is what a process was started with: sockets, from systemd or from the
// process that it replaces, and what the operator told that one.
type Inherited struct {
	sockets map[string]net.Listener
	told    []gateway.Order
	health  []gateway.ServerHealth
	pipe    *os.File // nil: nobody waits for us
}

// Inherit takes what this process was started with. It is called once.
func Inherit() (*Inherited, error) {
	var over takeOver
	said := os.Getenv(takeOverVar)
	if said != "" {
		if err := json.Unmarshal([]byte(said), &over); err != nil {
			return nil, fmt.Errorf("server: %s is for belay alone, and cannot be read: %w", takeOverVar, err)
		}
	} else {
		names, err := edge.SystemdNames(os.Getenv, os.Getpid())
		if err != nil {
			return nil, err
		}
		over.Sockets = names
	}
	sockets, err := edge.Inherit(over.Sockets)
	in := &Inherited{sockets: sockets, told: over.Orders, health: over.Health}
	if said != "" {
		in.pipe = os.NewFile(uintptr(3+len(over.Sockets)), "pipe")
	}
	return in, err
}

func (in *Inherited) listeners() map[string]net.Listener {
	if in == nil {
		return nil
	}
	return in.sockets
}

func (in *Inherited) orders() []gateway.Order {
	if in == nil {
		return nil
	}
	return in.told
}

func (in *Inherited) known() []gateway.ServerHealth {
	if in == nil {
		return nil
	}
	return in.health
}

// ready tells whoever waits that this process serves now, and closes the sockets
// that the configuration did not ask for.
func (in *Inherited) ready(log *slog.Logger) {
	notify("READY=1")
	if in == nil {
		return
	}
	for address, ln := range in.sockets {
		log.Warn("a socket that the process was given is in no setting; closed", "address", address)
		ln.Close()
	}
	clear(in.sockets)
	if in.pipe != nil {
		_, _ = io.WriteString(in.pipe, ready)
		in.pipe.Close()
	}
}

// upgradeTime is how long the next process may take to be ready.
const upgradeTime = time.Minute

// Upgrade starts the program anew, hands it the sockets and what the operator
// said, and, once it serves, ends Run: gently, as the settings lame_duck and
// tunnel_grace say. If the next process does not get ready, this one goes on.
func (s *Server) Upgrade(ctx context.Context) error {
	s.change.Lock()
	defer s.change.Unlock()
	r, _ := s.running()
	switch {
	case r == nil:
		return errNotRunning
	case len(s.o.Program) == 0:
		return errors.New("server: upgrade: it is not known how this program was started")
	}
	pid, err := s.startNext(ctx, r)
	if err != nil {
		return fmt.Errorf("server: upgrade: %w; this process goes on", err)
	}
	notify(fmt.Sprintf("MAINPID=%d", pid))
	r.log.Info("another process has taken over", "pid", pid)
	s.setRunning(nil)
	r.front.handOver()
	close(r.left)
	return nil
}

// startNext returns once the next process is ready.
func (s *Server) startNext(ctx context.Context, r *running) (int, error) {
	names, files, err := r.front.files()
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if err != nil {
		return 0, err
	}
	text, err := json.Marshal(takeOver{names, r.gateway.Orders(), r.gateway.Health()})
	if err != nil {
		return 0, err
	}
	pipe, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer pipe.Close()
	files = append(files, w)
	//nolint:contextcheck,gosec // it outlives us, and is what we were started as
	cmd := exec.Command(s.o.Program[0], s.o.Program[1:]...)
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, takeOverVar+"=") || strings.HasPrefix(v, "LISTEN_")
	}), takeOverVar+"="+string(text))
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = os.Stdout, os.Stderr, files
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	w.Close()
	if err := awaitReady(ctx, pipe); err != nil {
		_ = cmd.Process.Kill()
		if werr := cmd.Wait(); werr != nil && errors.Is(err, io.EOF) {
			err = fmt.Errorf("the next process ended before it was ready (%w); its reason is in the log", werr)
		}
		return 0, err
	}
	pid := cmd.Process.Pid
	return pid, cmd.Process.Release()
}

func awaitReady(ctx context.Context, pipe *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, upgradeTime)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { pipe.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	line, err := bufio.NewReader(pipe).ReadString('\n')
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("the next process was not ready in time: %w", ctx.Err())
	case err != nil:
		return err
	case line != ready:
		return fmt.Errorf("the next process said %q", line)
	}
	return nil
}
