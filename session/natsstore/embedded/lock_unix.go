// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package embedded

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// lockDir makes the directory and keeps other processes out of it until the
// lock is closed or this process dies.
func lockDir(dir string) (io.Closer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("directory %s: %w", dir, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "belay.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("directory %s cannot be written: choose another or fix its rights: %w", dir, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		owner, _ := io.ReadAll(io.LimitReader(f, 20))
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("directory %s is in use by process %s: stop it or choose another directory",
				dir, strings.TrimSpace(string(owner)))
		}
		return nil, fmt.Errorf("directory %s: lock: %w", dir, err)
	}
	// Only for the message above; the lock itself is the kernel's.
	if err := errors.Join(f.Truncate(0), writeAt(f, fmt.Sprintln(os.Getpid()))); err != nil {
		f.Close()
		return nil, fmt.Errorf("directory %s cannot be written: %w", dir, err)
	}
	return f, nil
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}
