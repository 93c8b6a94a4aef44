// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package belay_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	mdLink  = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	mdFence = regexp.MustCompile("(?ms)^```.*?^```$")
	mdCode  = regexp.MustCompile("`([^`\n]+)`")
	symbol  = regexp.MustCompile(`^([a-z]\w*)\.([A-Z]\w*)(?:\.([A-Z]\w*))?(?:\(.*\))?$`)
	isTest  = regexp.MustCompile(`^(Test|Example|Fuzz|Benchmark)(_|[A-Z]|$)`)
)

// code is what the documents may name: every package's exported symbols, and
// every test.
type code struct {
	symbols  map[string]bool // "session.New", "session.Session.Renew"
	packages map[string]bool
	tests    map[string][]string // "TestX": the folders that have one
	literals map[string]bool     // string literals of test code: names of subtests
}

func TestDocs(t *testing.T) {
	c := readCode(t)
	pages := 0
	walk(t, func(file string, src []byte) {
		if path.Ext(file) == ".md" {
			pages++
			for _, wrong := range c.checkPage(file, string(src), exists) {
				t.Error(wrong)
			}
		}
	})
	if pages < 5 {
		t.Errorf("only %d pages found: the test would check nothing", pages)
	}
}

func exists(file string) bool {
	_, err := os.Stat(filepath.FromSlash(file))
	return err == nil
}

// checkPage reports each relative link, repository path and symbol of ours that
// a page names and that does not exist.
func (c *code) checkPage(file, text string, exists func(string) bool) (wrong []string) {
	bad := func(format string, args ...any) { wrong = append(wrong, file+": "+fmt.Sprintf(format, args...)) }
	var words []string
	prose := mdFence.ReplaceAllStringFunc(text, func(block string) string {
		words = append(words, strings.Fields(block)...)
		return ""
	})
	for _, m := range mdCode.FindAllStringSubmatch(prose, -1) {
		words = append(words, strings.Fields(m[1])...)
	}
	for _, m := range mdLink.FindAllStringSubmatch(prose, -1) {
		target, _, _ := strings.Cut(m[1], "#")
		if target == "" || strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
			continue
		}
		if to := path.Join(path.Dir(file), target); !exists(to) {
			bad("links to %s, which does not exist", to)
		}
	}
	for _, word := range words {
		if p, ok := repositoryPath(word); ok && !exists(p) && !c.testAt(p) {
			bad("names %s, which does not exist", p)
		}
		if m := symbol.FindStringSubmatch(word); m != nil && c.packages[m[1]] && !isTest.MatchString(m[2]) {
			if name := strings.TrimRight(m[1]+"."+m[2]+"."+m[3], "."); !c.symbols[name] {
				bad("names %s, which does not exist", name)
			}
		}
	}
	return wrong
}

// repositoryPath says whether a word of code names a place in this repository.
func repositoryPath(word string) (string, bool) {
	word = strings.TrimSuffix(strings.TrimPrefix(word, "./"), "/...")
	first, _, slash := strings.Cut(word, "/")
	known := floor(first) >= 0 || slices.Contains([]string{"docs", "scripts", "tools", "deploy", ".ci"}, first)
	if !slash || !known || strings.ContainsAny(word, "*{<…:") {
		return "", false
	}
	return path.Clean(word), true
}

// testAt: session/memstore.TestX names a test by its folder, and may go on with /subtest.
func (c *code) testAt(name string) bool {
	dir, test, _ := strings.Cut(name, ".")
	parts := strings.Split(test, "/")
	return slices.Contains(c.tests[parts[0]], dir) &&
		!slices.ContainsFunc(parts[1:], func(sub string) bool { return !c.literals[sub] })
}

// The checks above, on pages that are wrong on purpose.
func TestDocsRules(t *testing.T) {
	t.Parallel()
	c := &code{
		symbols:  map[string]bool{"session.New": true, "session.Session.Renew": true},
		packages: map[string]bool{"session": true},
		tests:    map[string][]string{"TestA": {"server/a"}},
		literals: map[string]bool{"sub": true},
	}
	there := func(p string) bool { return p == "docs/a.md" || p == "session/id.go" || p == "session" }
	for _, tt := range []struct{ name, text, want string }{
		{"link", "[a](a.md#part) [b](https://example.com/x) [c](#here)", ""},
		{"dead_link", "[a](b.md)", "docs/b.md"},
		{"path", "`session/id.go`, `go test ./session/...`", ""},
		{"dead_path", "`session/gone.go`", "session/gone.go"},
		{"code_block", "```go\nx[i](gone.md)\n```", ""},
		{"test_of_a_folder", "`session/memstore.TestA`", "session/memstore.TestA"},
		{"subtest_of_a_folder", "`server/a.TestA/sub` `server/a.TestA`", ""},
		{"dead_subtest_of_a_folder", "`server/a.TestA/gone`", "TestA/gone"},
		{"dead_path_in_block", "```\ngo run ./cmd/gone\n```", "cmd/gone"},
		{"dead_path_in_command", "`go run ./cmd/gone --flag`", "cmd/gone"},
		{"pattern", "`session/*.go`, `image/png`", ""},
		{"symbol", "`session.New(store, nil)`, `session.Session.Renew`, `http.Handler`", ""},
		{"dead_symbol", "`session.Open`", "session.Open"},
		{"dead_method", "`session.Session.Revive`", "session.Session.Revive"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			expect(t, c.checkPage("docs/x.md", tt.text, there), tt.want)
		})
	}
}

func expect(t *testing.T, got []string, want string) {
	t.Helper()
	if (want == "") != (len(got) == 0) || want != "" && !strings.Contains(got[0], want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The program in the README is the first thing that a newcomer copies.
func TestReadmeProgramBuilds(t *testing.T) {
	t.Parallel()
	src, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(src), "```go\n")
	program, _, closed := strings.Cut(rest, "```")
	if !found || !closed || !strings.HasPrefix(program, "package main") {
		t.Fatal("README.md has no program")
	}
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "go", "vet", file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func readCode(t *testing.T) *code {
	t.Helper()
	c := &code{map[string]bool{}, map[string]bool{}, map[string][]string{}, map[string]bool{}}
	walk(t, func(file string, src []byte) {
		if path.Ext(file) != ".go" {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, src, parser.SkipObjectResolution)
		if err != nil {
			t.Errorf("%v", err)
			return
		}
		inTests := strings.HasSuffix(file, "_test.go")
		if inTests || strings.HasSuffix(f.Name.Name, "test") {
			c.addTests(path.Dir(file), f)
		}
		if !inTests && f.Name.Name != "main" {
			c.addSymbols(f)
		}
	})
	return c
}

func (c *code) addTests(dir string, f *ast.File) {
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && isTest.MatchString(fn.Name.Name) {
			c.tests[fn.Name.Name] = append(c.tests[fn.Name.Name], dir)
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			// As go test prints the name of a subtest.
			c.literals[strings.ReplaceAll(strings.Trim(lit.Value, "\"`"), " ", "_")] = true
		}
		return true
	})
}

// addSymbols takes what is exported: functions, types with their methods and
// fields, constants and variables.
func (c *code) addSymbols(f *ast.File) {
	p := f.Name.Name
	c.packages[p] = true
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			name := p + "." + d.Name.Name
			if d.Recv != nil && len(d.Recv.List) == 1 {
				name = p + "." + receiver(d.Recv.List[0].Type) + "." + d.Name.Name
			}
			c.symbols[name] = true
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.ValueSpec:
					for _, n := range s.Names {
						c.symbols[p+"."+n.Name] = true
					}
				case *ast.TypeSpec:
					c.symbols[p+"."+s.Name.Name] = true
					for _, member := range members(s.Type) {
						c.symbols[p+"."+s.Name.Name+"."+member] = true
					}
				}
			}
		}
	}
}

func receiver(x ast.Expr) string {
	switch x := x.(type) {
	case *ast.StarExpr:
		return receiver(x.X)
	case *ast.IndexExpr:
		return receiver(x.X)
	case *ast.IndexListExpr:
		return receiver(x.X)
	case *ast.Ident:
		return x.Name
	}
	return ""
}

func members(x ast.Expr) (names []string) {
	var list *ast.FieldList
	switch x := x.(type) {
	case *ast.StructType:
		list = x.Fields
	case *ast.InterfaceType:
		list = x.Methods
	default:
		return nil
	}
	for _, f := range list.List {
		for _, n := range f.Names {
			names = append(names, n.Name)
		}
	}
	return names
}

// storeHeadings are what every page of a store has, so that stores can be
// compared: each is the beginning of a heading.
var storeHeadings = []string{"Promises", "What it loses, and when", "Settings", "In production", "Bytes per session"}

// Every page of docs/stores but those of wrappers says the same things.
func TestStorePages(t *testing.T) {
	pages, err := filepath.Glob("docs/stores/*.md")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	guide, err := os.ReadFile("docs/stores/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		name := filepath.Base(page)
		if name == "README.md" {
			continue
		}
		if !strings.Contains(string(guide), "]("+name) {
			t.Errorf("docs/stores/README.md does not lead to %s", name)
		}
		if strings.HasPrefix(name, "sealed") { // a wrapper, and a store that is none
			continue
		}
		checked++
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, wrong := range missingHeadings(string(text)) {
			t.Errorf("%s: no heading %q", page, wrong)
		}
	}
	if checked < 7 {
		t.Errorf("only %d pages of stores found: the test would check nothing", checked)
	}
}

func missingHeadings(text string) (missing []string) {
	text = mdFence.ReplaceAllString(text, "")
	for _, want := range storeHeadings {
		if !strings.Contains(text, "\n## "+want) {
			missing = append(missing, want)
		}
	}
	return missing
}

func TestStorePagesRules(t *testing.T) {
	t.Parallel()
	whole := "# A\n\n## Promises\n## What it loses, and when\n## Settings\n## In production\n## Bytes per session, and cost\n"
	if got := missingHeadings(whole); got != nil {
		t.Errorf("of a whole page %q are missing", got)
	}
	if got := missingHeadings("# A\n```\n## Promises\n```\n## Settings\n"); len(got) != 4 {
		t.Errorf("missing: %q, want four", got)
	}
}
