// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"time"
)

var errNotRunning = errors.New("server: not running, or another process has taken over")

// reloadTime bounds how long the first checks of new servers may hold up a reload.
const reloadTime = 30 * time.Second

// Reload reads the configuration again and puts it in the place of the running
// one. With any mistake in it, or a listener that cannot be opened, the running
// one stays, and the error says so in one line.
func (s *Server) Reload(ctx context.Context) error {
	s.change.Lock()
	defer s.change.Unlock()
	r, _ := s.running()
	if r == nil {
		return errNotRunning
	}
	notify(reloading())
	defer notify("READY=1")
	if err := s.reload(ctx, r); err != nil {
		return fmt.Errorf("server: reload: %w; the running configuration stays", err)
	}
	r.log.Info("configuration reloaded", "file", s.o.File)
	return nil
}

func (s *Server) reload(ctx context.Context, r *running) error {
	if s.o.File == "" {
		return errors.New("there is no file to read")
	}
	cfg, err := Load(s.o.File)
	if err != nil {
		return oneLine(err)
	}
	ctx, cancel := context.WithTimeout(ctx, reloadTime)
	defer cancel()
	defer context.AfterFunc(r.ctx, cancel)()
	wants := r.wants(cfg)
	opened, err := r.front.open(ctx, wants)
	if err != nil {
		return err
	}
	if err := r.gateway.Reload(ctx, gatewayConfig(cfg)); err != nil {
		shut(opened)
		return fmt.Errorf("checking the new servers: %w", err)
	}
	// Also last, for the same reason: what it could not open is told, and the
	// fronts that did not change were not touched.
	if err := r.redis.set(cfg.Redis); err != nil {
		r.log.Error("a redis front does not run", "error", err)
	}
	r.front.serve(wants, opened)
	s.mu.Lock()
	r.cfg = cfg
	s.mu.Unlock()
	// Last, since it cannot fail the reload any more: what it was stays open.
	if err := r.access.open(cfg.AccessLog); err != nil {
		r.log.Error("the access log stays where it was", "error", err)
	}
	return nil
}

// oneLine shortens the mistakes of a file to the first.
func oneLine(err error) error {
	list := ConfigErrors(err)
	if len(list) < 2 {
		return err
	}
	return fmt.Errorf("%w (and %d more; belay check prints all)", list[0], len(list)-1)
}

// ReopenLogs opens the access log anew, after it was moved away.
func (s *Server) ReopenLogs() error {
	s.change.Lock()
	defer s.change.Unlock()
	r, cfg := s.running()
	if r == nil {
		return errNotRunning
	}
	return r.access.open(cfg.AccessLog)
}

// Effective returns the running configuration with every default filled in.
func (s *Server) Effective() []byte {
	_, cfg := s.running()
	return cfg.YAML()
}

// AllowRemote reports whether the admin API may be called by host name.
func (s *Server) AllowRemote() bool {
	_, cfg := s.running()
	return cfg.Admin != nil && cfg.Admin.AllowRemote
}
