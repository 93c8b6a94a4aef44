// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"

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
	cfg := &Config{file: path}
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

// Files returns the path of the configuration and of every file that it names.
func (c *Config) Files() []string {
	list := []string{c.file}
	files(reflect.ValueOf(c).Elem(), func(path string) { list = append(list, beside(c.file, path)) })
	return list
}

// files calls f with what the settings whose keys end in _file and _files say.
func files(v reflect.Value, f func(string)) {
	switch {
	case v.Kind() == reflect.Pointer && !v.IsNil():
		files(v.Elem(), f)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct && v.Type().Elem() != prefixType:
		for i := range v.Len() {
			files(v.Index(i), f)
		}
	case v.Kind() == reflect.Struct && v.Type() != prefixType:
		for _, s := range settings(v.Type()) {
			field := v.Field(s.i)
			switch {
			case strings.HasSuffix(s.key, "_file") && field.String() != "":
				f(field.String())
			case strings.HasSuffix(s.key, "_files") && field.Kind() == reflect.Slice:
				for i := range field.Len() {
					f(field.Index(i).String())
				}
			case s.tag.Get("files") != "":
				for _, k := range field.MapKeys() {
					f(field.MapIndex(k).String())
				}
			default:
				files(field, f)
			}
		}
	}
}

// beside returns the path of a file that a configuration names.
func beside(config, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(config), path)
}

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
