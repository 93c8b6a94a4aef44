// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package embedded

import (
	"fmt"
	"io"
	"os"
)

type noLock struct{}

func (noLock) Close() error { return nil }

// lockDir only makes the directory: this system has no lock that dies with its process.
func lockDir(dir string) (io.Closer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("directory %s: %w", dir, err)
	}
	return noLock{}, nil
}
