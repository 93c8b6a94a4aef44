// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package belay_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	logRow   = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| .+ \\|$")
	logKey   = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	logCalls = map[string]int{ // where the keys of a call begin
		"DebugContext": 2, "InfoContext": 2, "WarnContext": 2, "ErrorContext": 2, "Log": 3, "With": 0,
	}
)

// Whoever searches the logs finds every key in one table.
func TestLogKeysAreDocumented(t *testing.T) {
	src, err := os.ReadFile("docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(src), "## What the logs say")
	unused := map[string]bool{}
	for _, m := range logRow.FindAllStringSubmatch(table, -1) {
		unused[m[1]] = true
	}
	documented := maps.Clone(unused)
	walk(t, func(file string, src []byte) {
		if path.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go") || strings.HasSuffix(path.Dir(file), "test") {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, src, parser.SkipObjectResolution)
		if err != nil {
			t.Errorf("%v", err)
			return
		}
		for _, key := range logKeys(f) {
			delete(unused, key)
			if !logKey.MatchString(key) {
				t.Errorf("%s: log key %q is not snake_case", file, key)
			} else if !documented[key] {
				t.Errorf("%s: log key %q is not in docs/operations.md", file, key)
			}
		}
	})
	for key := range unused {
		t.Errorf("docs/operations.md explains the log key %q, which no code uses", key)
	}
}

// logKeys finds the keys of structured log calls: slog.Int("key", n) and
// logger.WarnContext(ctx, "message", "key", value).
func logKeys(f *ast.File) (keys []string) {
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		fn, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		args := call.Args
		if x, ok := fn.X.(*ast.Ident); ok && x.Name == "slog" {
			switch { // slog.Int(key, n), slog.Group(key, attrs or pairs…)
			case fn.Sel.Name == "Group" && len(args) > 0:
				if lit, ok := args[0].(*ast.BasicLit); ok {
					keys = append(keys, strings.Trim(lit.Value, "\""))
				}
				args = args[1:]
			case len(args) == 2:
				args = args[:1]
			default:
				return true
			}
		} else if from, ok := logCalls[fn.Sel.Name]; ok && len(args) > from {
			args = args[from:]
		} else {
			return true
		}
		for i := 0; i < len(args); i++ {
			lit, ok := args[i].(*ast.BasicLit)
			if !ok {
				continue // an Attr, which is looked at by itself
			}
			if lit.Kind == token.STRING {
				keys = append(keys, strings.Trim(lit.Value, "\""))
				i++ // its value
			}
		}
		return true
	})
	return keys
}

func TestLogKeysAreFound(t *testing.T) {
	t.Parallel()
	const src = `package x
func f() {
	l.With("node", n).WarnContext(ctx, "a message", "one", 1, slog.Int("two", 2), "three", slog.GroupValue(slog.String("four", s)))
	l.Log(ctx, level, "a message", "five", 5)
	slog.New(h); slog.Group("six", "seven", 7)
	fmt.Println("no", "key")
}`
	f, err := parser.ParseFile(token.NewFileSet(), "x.go", src, 0)
	if err != nil {
		t.Fatal(err)
	}
	got := slices.Sorted(slices.Values(logKeys(f)))
	if want := []string{"five", "four", "node", "one", "seven", "six", "three", "two"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
