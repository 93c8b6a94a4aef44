// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package belay_test checks the house itself: who may import whom, and that the
// documents name only what exists.
package belay_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/belay-ha/belay"

// floors from the top; a package imports only its own folder and floors below.
var floors = [][]string{
	{"bench"},
	{"cmd"},
	{"server"},
	{"admission", "hold"},
	{"session"},
	{"internal"},
}

const (
	core    = "session"
	wire    = "internal/wire"
	gateway = "server/internal/gateway"
	admin   = "server/internal/admin"
)

// siblings are folders that do not import each other, with what they are to
// those who read the failure.
var siblings = []struct {
	what string
	in   string // every folder path.Match finds here has to be listed
	dirs []string
}{
	{"stores do not import each other", core + "/*store", []string{
		"session/memstore", "session/pebblestore", "session/redisstore", "session/memcachedstore",
		"session/sqlstore", "session/natsstore", "session/peerstore", "session/sealed",
	}},
	{"the parts of the gateway do not import each other", gateway + "/*", []string{
		gateway + "/edge", gateway + "/route", gateway + "/limit", gateway + "/balance", gateway + "/health",
		gateway + "/upstream", gateway + "/discover", gateway + "/cache", gateway + "/compress", gateway + "/clientip",
	}},
	{"only package server wires its parts together", "server/internal/*", []string{
		gateway, "server/internal/redisfront", "server/internal/config", admin,
	}},
}

// shownByAdmin are the parts of the server that the admin API looks at.
var shownByAdmin = map[string]bool{gateway: true, "server/internal/redisfront": true}

// notBuilt are folders named above that the design promises and that do not
// exist yet. One that does must leave the list, so that no rule sleeps unseen.
var notBuilt = []string{
	"admission", "hold",
	gateway + "/cache", gateway + "/compress",
}

// pkg is a folder with Go files, as far as the rules look at it.
type pkg struct {
	dir     string // in the repository, with slashes; "." is the root
	name    string
	imports []string // of its files that are no tests; ours without the module path
	doc     bool     // some file says what the package is for
	tests   bool     // it has nothing but tests
	bare    []string // its files without the licence header
}

// violations is every rule, applied to a tree.
func violations(tree []pkg) []string {
	var found []string
	for _, p := range tree {
		bad := func(format string, args ...any) { found = append(found, p.dir+": "+fmt.Sprintf(format, args...)) }
		for _, f := range p.bare {
			bad("%s does not begin with the two SPDX lines", f)
		}
		if p.tests {
			continue
		}
		if floor(p.dir) < 0 {
			bad("belongs to no floor: Go lives in %v", slices.Concat(floors...))
		}
		if !p.doc {
			bad("no package doc: doc.go says what it is for and what it never does")
		}
		for _, group := range siblings {
			if in, _ := path.Match(group.in, p.dir); in && !slices.Contains(group.dirs, p.dir) {
				bad("is not in the list of siblings, so nothing keeps it apart: %s", group.what)
			}
		}
		for _, imp := range p.imports {
			if why := forbidden(p, imp); why != "" {
				bad("imports %s: %s", imp, why)
			}
		}
	}
	return found
}

// forbidden says why p may not import imp; empty: it may.
func forbidden(p pkg, imp string) string {
	first, _, _ := strings.Cut(imp, "/")
	ours := floor(imp) >= 0 && !strings.Contains(first, ".")
	testOnly := strings.HasSuffix(p.name, "test")
	switch {
	case imp == "testing" || strings.HasPrefix(imp, "testing/"):
		if !testOnly {
			return "test code in the build; only packages whose name ends in test may"
		}
		return ""
	case p.dir == wire && (ours || strings.Contains(first, ".")):
		return "the wire formats rest on the standard library alone"
	case p.dir == core && imp != wire && (ours || strings.Contains(first, ".")):
		return "the session library rests on the standard library and " + wire + " alone"
	case !ours:
		return ""
	case strings.HasSuffix(imp, "test") && !testOnly:
		return "test code in the build; only packages whose name ends in test may"
	}
	mine, _, _ := strings.Cut(p.dir, "/")
	if from, to := floor(p.dir), floor(imp); from >= 0 && mine != first && to <= from {
		return "a floor imports only floors below it"
	}
	for _, group := range siblings {
		from, to := within(p.dir, group.dirs), within(imp, group.dirs)
		if from != "" && to != "" && from != to && !(p.dir == admin && shownByAdmin[imp]) {
			return group.what
		}
	}
	if within(p.dir, siblings[1].dirs) != "" && imp == gateway {
		return "the gateway composes its parts; they do not know it"
	}
	return ""
}

// floor is the number of the floor that a folder is on, from the top; -1: none.
func floor(dir string) int {
	top, _, _ := strings.Cut(dir, "/")
	return slices.IndexFunc(floors, func(f []string) bool { return slices.Contains(f, top) })
}

// within returns the folder of dirs that dir is or lies in.
func within(dir string, dirs []string) string {
	for _, d := range dirs {
		if dir == d || strings.HasPrefix(dir, d+"/") {
			return d
		}
	}
	return ""
}

func TestArchitecture(t *testing.T) {
	tree := readTree(t)
	if len(tree) < 3 {
		t.Fatalf("only %d packages found: the rules would check nothing", len(tree))
	}
	for _, v := range violations(tree) {
		t.Error(v)
	}
}

// A rule about a folder that was renamed would pass for ever.
func TestArchitectureNamesWhatExists(t *testing.T) {
	var dirs []string
	for _, p := range readTree(t) {
		dirs = append(dirs, p.dir)
	}
	named := slices.Concat(floors...)
	for _, g := range siblings {
		named = append(named, g.dirs...)
	}
	for _, d := range append(named, core, wire) {
		exists := slices.ContainsFunc(dirs, func(dir string) bool { return within(dir, []string{d}) != "" })
		switch listed := slices.Contains(notBuilt, d); {
		case exists && listed:
			t.Errorf("%s exists now: take it off notBuilt", d)
		case !exists && !listed:
			t.Errorf("a rule names %s, and there is no such folder", d)
		case listed:
			t.Logf("not built yet: %s", d)
		}
	}
	for _, d := range notBuilt {
		if !slices.Contains(named, d) {
			t.Errorf("notBuilt lists %s, which no rule names", d)
		}
	}
}

// Each rule, broken on purpose, beside the nearest thing that is allowed.
func TestArchitectureRules(t *testing.T) {
	t.Parallel()
	ok := func(dir string, imports ...string) pkg {
		return pkg{dir: dir, name: path.Base(dir), doc: true, imports: imports}
	}
	for _, tt := range []struct {
		name string
		pkg  pkg
		want string // part of the one violation; empty: none
	}{
		{"floor_below", ok("cmd/belay", "server", "session", "internal/wire"), ""},
		{"floor_above", ok("internal/wire2", "session"), "floors below"},
		{"library_does_not_know_the_binary", ok("session/near", "server"), "floors below"},
		{"server_does_not_know_the_commands", ok("server", "cmd/belay/internal/demo"), "floors below"},
		{"side_by_side_on_one_floor", ok("admission", "hold"), "floors below"},
		{"own_folder", ok("admission", "admission/token"), ""},
		{"no_floor", ok("util", "strings"), "belongs to no floor"},

		{"core_on_stdlib_and_wire", ok("session", "net/http", "internal/wire"), ""},
		{"core_on_another_ground_package", ok("session", "internal/placement"), "alone"},
		{"core_on_its_own_store", ok("session", "session/memstore"), "alone"},
		{"core_on_a_module", ok("session", "github.com/redis/rueidis"), "alone"},
		{"wire_on_a_module", ok("internal/wire", "golang.org/x/crypto/blake2b"), "alone"},
		{"wire_on_the_ground_floor", ok("internal/wire", "internal/placement"), "alone"},

		{"store_on_core_and_client", ok("session/redisstore", "session", "internal/redisconn", "github.com/redis/rueidis"), ""},
		{"store_on_store", ok("session/redisstore", "session/memstore"), "stores do not"},
		{"inside_a_store", ok("session/sqlstore", "session/sqlstore/dialect"), ""},
		{"inside_a_store_on_store", ok("session/sqlstore/dialect", "session/memstore"), "stores do not"},

		{"gateway_composes", ok(gateway, gateway+"/balance", gateway+"/health"), ""},
		{"part_on_part", ok(gateway+"/health", gateway+"/balance"), "parts of the gateway"},
		{"part_on_gateway", ok(gateway+"/health", gateway), "composes"},
		{"server_wires", ok("server", gateway, "server/internal/config", "server/internal/admin"), ""},
		{"config_on_gateway", ok("server/internal/config", gateway), "only package server wires"},
		{"admin_on_what_it_shows", ok(admin, gateway), ""},
		{"gateway_on_admin", ok(gateway, admin), "only package server wires"},
		{"admin_on_config", ok(admin, "server/internal/config"), "only package server wires"},
		{"admin_on_a_part", ok("server/internal/admin", gateway+"/balance"), "only package server wires"},

		{"testing_in_a_test_package", ok("session/storetest", "testing", "testing/synctest", "session"), ""},
		{"testing_in_the_build", ok("session/memstore", "testing"), "test code"},
		{"testing_package_in_the_build", ok("server", "testing/fstest"), "test code"},
		{"test_package_in_the_build", ok("cmd/belay", "internal/servertest"), "test code"},
		{"test_package_on_test_package", ok("session/sessiontest", "session/storetest"), ""},

		{"unlisted_store", ok("session/etcdstore", "session"), "not in the list"},
		{"unlisted_part", ok(gateway + "/rewrite"), "not in the list"},
		{"unlisted_part_of_server", ok("server/internal/dashboard"), "not in the list"},
		{"wrapper_is_no_store", ok("session/near", "session"), ""},

		{"no_doc", pkg{dir: "session/near", name: "near"}, "no package doc"},
		{"tests_alone_need_no_doc", pkg{dir: ".", name: "belay_test", tests: true}, ""},
		{"no_licence", pkg{dir: "session/near", name: "near", doc: true, bare: []string{"near.go"}}, "SPDX"},
		{"no_licence_in_tests_alone", pkg{dir: ".", tests: true, bare: []string{"x_test.go"}}, "SPDX"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := violations([]pkg{tt.pkg})
			switch {
			case tt.want == "" && len(got) != 0:
				t.Errorf("refused: %v", got)
			case tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)):
				t.Errorf("got %q, want one violation with %q", got, tt.want)
			}
		})
	}
}

// readTree reads the head of each Go file of the module, for every platform.
func readTree(t *testing.T) []pkg {
	t.Helper()
	pkgs := map[string]*pkg{}
	walk(t, func(file string, src []byte) {
		if path.Ext(file) != ".go" {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, src, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			t.Errorf("%v", err)
			return
		}
		p := pkgs[path.Dir(file)]
		if p == nil {
			p = &pkg{dir: path.Dir(file), tests: true}
			pkgs[p.dir] = p
		}
		if !strings.HasPrefix(string(src), "// SPDX-FileCopyrightText: The Belay authors\n// SPDX-License-Identifier: Apache-2.0\n") {
			p.bare = append(p.bare, path.Base(file))
		}
		if strings.HasSuffix(file, "_test.go") {
			return
		}
		p.tests = false
		p.name = f.Name.Name
		p.doc = p.doc || f.Doc != nil && !strings.HasPrefix(f.Doc.Text(), "SPDX") // a header glued to the clause is no doc
		for _, imp := range f.Imports {
			name, _ := strconv.Unquote(imp.Path.Value)
			p.imports = append(p.imports, strings.TrimPrefix(name, module+"/"))
		}
	})
	var tree []pkg
	for _, dir := range slices.Sorted(maps.Keys(pkgs)) {
		p := *pkgs[dir]
		slices.Sort(p.imports)
		p.imports = slices.Compact(p.imports)
		tree = append(tree, p)
	}
	return tree
}

// walk calls f for each file of the module. Hidden folders, testdata and
// modules of their own are not part of it.
func walk(t *testing.T, f func(file string, src []byte)) {
	t.Helper()
	root := os.DirFS(".")
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.IsDir() {
			if ext := path.Ext(name); ext != ".go" && ext != ".md" {
				return nil
			}
			src, err := fs.ReadFile(root, name)
			if err == nil {
				f(name, src)
			}
			return err
		}
		if name == "." {
			return nil
		}
		_, err = fs.Stat(root, name+"/go.mod")
		if err == nil || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_") {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
