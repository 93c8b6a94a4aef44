// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long files must be still before they are read: editors and
// deployments write them in several steps.
const settle = 250 * time.Millisecond

// watch reloads when the configuration, or a file that it names, has other
// contents than before. Folders are watched, not files: a file that is replaced
// is another one, and in Kubernetes it is a link two steps away.
func (s *Server) watch(ctx context.Context, r *running) {
	if s.o.File == "" {
		return
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		r.log.Warn("the configuration is not watched; reload with SIGHUP", "error", err)
		return
	}
	defer w.Close()
	_, cfg := s.running()
	files := cfg.Files()
	follow(w, files)
	seen := s.read
	timer := time.NewTimer(settle) // for what changed since it was read
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.left:
			return
		case <-w.Events:
			timer.Reset(settle)
		case err := <-w.Errors:
			r.log.Warn("watching the configuration", "error", err)
			timer.Reset(settle)
		case <-timer.C:
			_, cfg := s.running()
			follow(w, cfg.Files())
			now := digest(cfg.Files())
			if now == seen || !cfg.Watch {
				continue
			}
			seen = now
			if err := s.Reload(ctx); err != nil {
				r.log.Error("configuration not reloaded", "error", err)
				continue
			}
			_, cfg = s.running()
			follow(w, cfg.Files())
			seen = digest(cfg.Files())
		}
	}
}

// follow watches the folders of files, also behind links.
func follow(w *fsnotify.Watcher, files []string) {
	for _, file := range files {
		_ = w.Add(filepath.Dir(file))
		if real, err := filepath.EvalSymlinks(file); err == nil {
			_ = w.Add(filepath.Dir(real))
		}
	}
}

// digest sums up the contents of files; one that cannot be read counts as empty.
func digest(files []string) [sha256.Size]byte {
	h := sha256.New()
	for _, file := range files {
		text, err := os.ReadFile(file)
		sum := sha256.Sum256(text)
		if err != nil {
			sum = [sha256.Size]byte{}
		}
		h.Write(sum[:])
	}
	return [sha256.Size]byte(h.Sum(nil))
}
