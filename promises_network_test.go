// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package belay_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// suiteRuns are the tests that run sessiontest: in memory, as the promises name
// it, and over a network.
const suiteRuns = "TestMemstore/"

// aboutNodes are promises about the nodes of a store: their tests are those of
// the stores that have nodes, whatever these call them.
var aboutNodes = []string{
	"T36", "H01", "H02", "H03", "H04", "H05", "H06", "H07", "H08", "H09", "H21", "H22", "H23", "H36", "H44", "H45",
}

// Each T, H and SC number has a test that runs on a store over a network, too:
// one of the suite, or one that starts a server.
func TestSessionPromisesRunOverANetwork(t *testing.T) {
	suite, err := os.ReadFile("session/redisstore/conformance_test.go")
	if err != nil || !strings.Contains(string(suite), "sessiontest.") {
		t.Fatalf("redisstore does not run the suite: %v", err)
	}
	network := testsOverANetwork(t)
	page, err := os.ReadFile("docs/promises.md")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for line := range strings.Lines(string(page)) {
		m := promiseRow.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil || !slices.Contains([]string{"T", "H", "SC"}, m[1]) || slices.Contains(aboutNodes, m[1]+m[2]) || m[4] == notBuiltYet {
			continue
		}
		checked++
		if strings.Contains(m[4], suiteRuns) {
			continue
		}
		if !slices.ContainsFunc(mdCode.FindAllStringSubmatch(m[4], -1), func(n []string) bool { return network[n[1]] }) {
			t.Errorf("%s%s: none of its tests runs on a store over a network", m[1], m[2])
		}
	}
	if checked < 70 {
		t.Errorf("only %d promises were looked at", checked)
	}
}

// testsOverANetwork are the tests that start a server by themselves or through
// onStores.
func testsOverANetwork(t *testing.T) map[string]bool {
	t.Helper()
	network := map[string]bool{}
	walk(t, func(file string, src []byte) {
		if path.Ext(file) != ".go" || !strings.HasSuffix(file, "_test.go") {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, src, parser.SkipObjectResolution)
		if err != nil {
			t.Error(err)
			return
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil || !isTest.MatchString(fn.Name.Name) {
				continue
			}
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				if id, ok := n.(*ast.Ident); ok && (id.Name == "onStores" || id.Name == "servertest") {
					network[fn.Name.Name] = true
				}
				return true
			})
		}
	})
	return network
}
