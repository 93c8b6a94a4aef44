// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belay-ha/belay/server/internal/config"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write what the code says into the golden files")

// TestGolden holds each input of testdata against the errors, or the effective
// configuration, that belong to it.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 10 {
		t.Fatal(len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil || len(ar.Files) != 2 {
				t.Fatal(err, "want input and result")
			}
			name, got := "config", ""
			cfg, err := config.Parse("belay.yaml", ar.Files[0].Data)
			if err != nil {
				name, got = "errors", err.Error()+"\n"
				if n := len(config.Errors(err)); n != strings.Count(got, "\n") {
					t.Errorf("%d errors in %d lines", n, strings.Count(got, "\n"))
				}
			} else {
				got = string(cfg.YAML())
				again, err := config.Parse("belay.yaml", cfg.YAML())
				if err != nil || !bytes.Equal(again.YAML(), cfg.YAML()) {
					t.Errorf("the effective configuration does not load to the same: %v", err)
				}
				for _, l := range cfg.Lints() {
					got += "# " + l.Error() + "\n"
				}
			}
			if *update {
				ar.Files[1] = txtar.File{Name: name, Data: []byte(got)}
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want := string(ar.Files[1].Data); name != ar.Files[1].Name || got != want {
				t.Errorf("%s:\n%swant %s:\n%s", name, got, ar.Files[1].Name, want)
			}
		})
	}
}

func TestLoadNamesTheFileAndTheFlag(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.yaml")
	_, err := config.Load(path)
	var e *config.Error
	if !errors.As(err, &e) || e.Path != path || !strings.Contains(err.Error(), "-c") {
		t.Fatal(err)
	}
}

func TestKeyFileIsReadBesideTheConfig(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("sticky.key", "0123456789abcdef\n")
	cfg, err := config.Load(write("belay.yaml", `
listeners: [{address: "127.0.0.1:1"}]
pools: {shop: {servers: [{name: a, address: "127.0.0.1:2"}], sticky: {key_file: sticky.key}}}
`))
	if err != nil || string(cfg.Pools[0].Sticky.Keys[0]) != "0123456789abcdef" {
		t.Fatal(cfg, err)
	}
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.txtar")
	if len(files) == 0 {
		f.Fatal("no seeds")
	}
	for _, file := range files {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(ar.Files[0].Data)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		cfg, err := config.Parse("fuzz.yaml", text)
		if (cfg == nil) == (err == nil) {
			t.Errorf("%v and %v", cfg, err)
		}
		if err != nil && len(config.Errors(err)) == 0 {
			t.Errorf("not one of our errors: %v", err)
		}
	})
}
