// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ReadFile reads a list.
func ReadFile(path string) (*List, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("placement: %w", err)
	}
	l, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return l, nil
}

// WriteFile puts a list in the place of the one in the file, if it may follow it.
// Readers see the old one or the new one, never a part.
func WriteFile(path string, l *List) error {
	old, err := ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		if err := old.Follows(l); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".placement-*")
	if err != nil {
		return fmt.Errorf("placement: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(l.Encode())
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("placement: %w", err)
	}
	return nil
}
