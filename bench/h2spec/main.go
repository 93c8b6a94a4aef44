// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// The program h2spec holds a gateway against the conformance suite of that name,
// over TLS and without, and writes down what failed and why. A failure that it
// cannot explain is an error.
package main

import (
	"context"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/belay-ha/belay/bench/internal/peer"
)

const suite = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible"

// side is one way to HTTP/2, and how many cases may fail there.
type side struct {
	name  string
	args  []string
	bound int
}

var sides = []side{{"TLS", []string{"-t", "-k"}, 4}, {"h2c", nil, 5}}

// report is what h2spec writes with -j.
type report struct {
	Suites []struct {
		Cases []struct {
			Package string `xml:"package,attr"`
			Name    string `xml:"classname,attr"`
			Failure string `xml:"failure"`
			Error   string `xml:"error"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

// failed is a case that did not pass, and where.
type failed struct {
	section, name, got string
	on                 []string
}

func main() {
	out := flag.String("o", "docs/conformance.md", "where the results go")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	dir, err := os.MkdirTemp("", "belay-h2spec-")
	if err == nil {
		err = errors.Join(run(ctx, dir, *out), os.RemoveAll(dir))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/h2spec:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir, out string) error {
	tool, err := find(ctx, dir)
	if err != nil {
		return err
	}
	addrs, gateway, err := start(ctx, dir)
	if err != nil {
		return err
	}
	defer gateway.Stop()
	var list []failed
	var errs []error
	total := 0
	for i, s := range sides {
		r, err := ask(ctx, tool, filepath.Join(dir, s.name+".xml"), addrs[i], s.args)
		if err != nil {
			return fmt.Errorf("h2spec over %s: %w", s.name, err)
		}
		n, bad := 0, 0
		for _, suite := range r.Suites {
			for _, c := range suite.Cases {
				if n++; c.Failure+c.Error != "" {
					bad++
					list = add(list, failed{c.Package, c.Name, last(c.Failure + c.Error), nil}, s.name)
				}
			}
		}
		fmt.Printf("h2spec_failed_%s %d\n", strings.ToLower(s.name), bad)
		if total = n; bad > s.bound || n < 140 {
			errs = append(errs, fmt.Errorf("over %s %d of %d cases failed; at most %d may", s.name, bad, n, s.bound))
		}
	}
	for _, f := range list {
		if reasons[f.section+" "+f.name] == (reason{}) {
			errs = append(errs, fmt.Errorf("%s %q failed, and nobody has said why: got %s", f.section, f.name, f.got))
		}
	}
	return errors.Join(append(errs, os.WriteFile(out, page(list, total), 0o644))...) //nolint:gosec // a page for everybody
}

// find returns the path of h2spec: one that is installed, or one that is built
// for this run alone.
func find(ctx context.Context, dir string) (string, error) {
	home, _ := os.UserHomeDir()
	if path, err := peer.Find("h2spec", filepath.Join(home, "go", "bin", "h2spec")); err == nil {
		return path, nil
	}
	cmd := exec.CommandContext(ctx, "go", "install", suite)
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go install %s: %w: %s", suite, err, text)
	}
	return filepath.Join(dir, "h2spec"), nil
}

// start runs a gateway with a listener for each side, before a server that says a
// few words to everybody.
func start(ctx context.Context, dir string) ([]string, *peer.Process, error) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "Here is an answer with a body that is long enough.")
	}))
	context.AfterFunc(ctx, app.Close)
	bin, err := peer.Build(ctx, dir, "./cmd/belay")
	if err == nil {
		err = peer.Certificate(dir, "h2spec")
	}
	if err != nil {
		return nil, nil, err
	}
	addrs := make([]string, len(sides))
	for i := range addrs {
		if addrs[i], err = peer.FreeAddr(); err != nil {
			return nil, nil, err
		}
	}
	path := filepath.Join(dir, "belay.yaml")
	text := fmt.Sprintf("listeners:\n  - {address: %q, tls: {certificates: [{cert_file: cert.pem, key_file: key.pem}]}}\n  - {address: %q, h2c: true}\naccess_log: off\npools: {shop: {servers: [{name: app, address: %q}], health: {path: /}}}\n",
		addrs[0], addrs[1], app.Listener.Addr())
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, nil, err
	}
	p, err := peer.Start(ctx, dir, "belay", addrs[1], bin, "serve", "-c", path)
	return addrs, p, err
}

// ask runs the suite. It ends with an error where a case failed, which the report
// tells better.
func ask(ctx context.Context, tool, file, addr string, args []string) (*report, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	said, rerr := exec.CommandContext(ctx, tool, append([]string{"-h", host, "-p", port, "-j", file}, args...)...).CombinedOutput()
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w: %s", err, rerr, said)
	}
	r := new(report)
	return r, xml.Unmarshal(text, r)
}

func add(list []failed, f failed, on string) []failed {
	for i := range list {
		if list[i].section == f.section && list[i].name == f.name {
			list[i].on = append(list[i].on, on)
			return list
		}
	}
	f.on = []string{on}
	return append(list, f)
}

// last is the last line of a text: what came, after what was wanted.
func last(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}

func page(list []failed, total int) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `# Conformance

What h2spec says of the side of the gateway that clients see: %d cases over TLS and as many over h2c, with an app server behind the gateway. Everything
else passed. This page is written by `+"`make conformance`"+`, which fails with more than %d failures over TLS, more than %d over h2c, or one that is not explained here.
Written with %s and h2spec 2.2.1. HTTP/1.1 is not for h2spec: [gateway.md](gateway.md) says what is refused there, and [promises.md](promises.md) (GW9) with which tests.

| RFC 9113 | the case | over | what it got | whose it is, and why | harm |
|---|---|---|---|---|---|
`, total, sides[0].bound, sides[1].bound, runtime.Version())
	for _, f := range list {
		r := reasons[f.section+" "+f.name]
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", r.rfc, f.name, strings.Join(f.on, ", "), f.got, r.why, r.harm)
	}
	return []byte(b.String())
}
