// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"os"
	"reflect"

	"github.com/goccy/go-yaml/ast"
)

const maxFile = 1 << 20

// Load reads a file. Its error joins one *Error for each mistake.
func Load(path string) (*Config, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, &Error{Path: path, Msg: err.Error() + "; name the file with -c"}
	}
	return Parse(path, text)
}

// Parse reads the text of a file; path is for messages, and other files are
// looked for beside it.
func Parse(path string, text []byte) (*Config, error) {
	d := &decoder{path: path, places: make(map[string]ast.Node), marks: make(map[string]ast.Node), bad: make(map[string]bool)}
	cfg := &Config{}
	if n := d.root(text); n != nil {
		d.structure(n, n, "", reflect.ValueOf(cfg).Elem())
		(&checker{d, cfg}).config()
	}
	if len(d.errs) > 0 {
		return nil, d.err()
	}
	sortByPlace(d.lints)
	cfg.lints = d.lints
	return cfg, nil
}

// Lints returns what is allowed and probably not meant, in the order of the file.
func (c *Config) Lints() []*Error { return c.lints }

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%d bytes are too many; at most %d", info.Size(), maxFile)
	}
	return os.ReadFile(path)
}
