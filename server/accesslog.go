// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"io"
	"os"
	"sync"
)

// accessLog is where the lines of requests go. The place can change while lines
// are written; each goes whole to one place.
type accessLog struct {
	stdout, stderr io.Writer

	mu   sync.Mutex
	to   io.Writer
	file *os.File // nil: not a file
}

func (l *accessLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.to == nil {
		return len(p), nil
	}
	return l.to.Write(p)
}

// open changes the place: stdout, stderr, off, or a path. A file is opened anew
// even if it is the one in use, since it may have been moved away.
func (l *accessLog) open(where string) error {
	var to io.Writer
	var file *os.File
	switch where {
	case "off":
	case "stdout":
		to = l.stdout
	case "stderr", "":
		to = l.stderr
	default:
		f, err := os.OpenFile(where, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
		if err != nil {
			return fmt.Errorf("server: open the access log: %w; change access_log", err)
		}
		to, file = f, f
	}
	l.mu.Lock()
	old := l.file
	l.to, l.file = to, file
	l.mu.Unlock()
	if old != nil {
		old.Close()
	}
	return nil
}

func (l *accessLog) close() { _ = l.open("off") }
