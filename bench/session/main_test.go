// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The test binary is also the app that it measures.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == appArg {
		if err := runApp(context.Background(), os.Args[2:], os.Stdin, os.Stdout); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// figures are the "name value" lines of a report.
func figures(t *testing.T, report string) map[string]float64 {
	t.Helper()
	found := map[string]float64{}
	for _, m := range regexp.MustCompile(`(?m)^([a-z_]+) (\d+\.\d+)$`).FindAllStringSubmatch(report, -1) {
		if _, twice := found[m[1]]; twice {
			t.Errorf("%s is printed twice", m[1])
		}
		v, err := strconv.ParseFloat(m[2], 64)
		if err != nil || v <= 0 {
			t.Errorf("%s is %s", m[1], m[2])
		}
		found[m[1]] = v
	}
	return found
}

// Every case runs, its answers are right, and its figure is printed once.
func TestRun(t *testing.T) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		if _, err := exec.LookPath("valkey-server"); err != nil {
			if os.Getenv("BELAY_REQUIRE_SERVERS") == "1" {
				t.Fatal("neither redis-server nor valkey-server is installed, and BELAY_REQUIRE_SERVERS=1: run scripts/deps")
			}
			t.Skip("neither redis-server nor valkey-server is installed")
		}
	}
	profiles := t.TempDir()
	var out, notes bytes.Buffer
	if err := run(t.Context(), []string{"--rounds", "1", "--requests", "64", "--cpuprofile", profiles}, &out, &notes); err != nil {
		t.Fatalf("%v\n%s", err, &notes)
	}
	got := figures(t, out.String())
	for name := range strings.FieldsSeq(`plain_us shared_mem_read_x shared_mem_write_x sticky_read_x sticky_async_write_x
		coherent_read_x shared_redis_read_x shared_redis_write_x scs_mem_read_x scs_mem_write_x scs_redis_read_x
		scs_redis_write_x gorilla_redis_read_x gorilla_redis_write_x`) {
		if _, ok := got[name]; !ok {
			t.Errorf("no %s in\n%s", name, &out)
		}
	}
	if len(got) != len(cases()) {
		t.Errorf("%d figures of %d cases", len(got), len(cases()))
	}
	if f, err := os.Stat(filepath.Join(profiles, "sticky_read-1.pprof")); err != nil || f.Size() == 0 {
		t.Errorf("no profile of sticky_read: %v", err)
	}
}

// A peer that is not there is said so, and the rest is measured.
func TestRunWithoutRedis(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	var out, notes bytes.Buffer
	if err := run(t.Context(), []string{"--rounds", "1", "--requests", "32"}, &out, &notes); err != nil {
		t.Fatalf("%v\n%s", err, &notes)
	}
	got := figures(t, out.String())
	if len(got) != 5 || got["scs_mem_write_x"] == 0 {
		t.Errorf("got %v, want plain and four cases in memory", got)
	}
	if want := "gorilla_redis_read is not measured: neither redis-server"; !strings.Contains(notes.String(), want) {
		t.Errorf("no %q in %q", want, &notes)
	}
}

func TestFlags(t *testing.T) {
	for _, args := range [][]string{{"--rounds", "0"}, {"--requests", "31"}, {"more"}} {
		if err := run(t.Context(), args, &bytes.Buffer{}, &bytes.Buffer{}); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}

// A library that loses a write is not fast, it is wrong.
func TestClientChecksAnswers(t *testing.T) {
	for _, tt := range []struct{ name, path, answer, want string }{
		{"right", pathWrite, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nSet-Cookie: id=abc; Path=/\r\n\r\n1", ""},
		{"lost_write", pathWrite, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0", "the counter is 0, want 1"},
		{"stale_read", pathRead, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n7", "the counter is 7, want 0"},
		{"failure", pathRead, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\naway", "503 Service Unavailable: away"},
		{"no_length", pathRead, "HTTP/1.1 200 OK\r\n\r\n0", "without a length"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			near, far := net.Pipe()
			defer near.Close()
			go func() {
				defer far.Close()
				r := bufio.NewReader(far)
				for line := ""; line != "\r\n"; {
					var err error
					if line, err = r.ReadString('\n'); err != nil {
						return
					}
				}
				_, _ = far.Write([]byte(tt.answer))
			}()
			c := &client{conn: near, in: bufio.NewReader(near), counts: true}
			err := c.run(tt.path, 1)
			if (tt.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if tt.want == "" && c.cookie != "id=abc" {
				t.Errorf("the cookie is %q", c.cookie)
			}
		})
	}
}

// Each is compared with plain at its time: what slows a whole round cancels out.
func TestTimes(t *testing.T) {
	t.Parallel()
	b := &bench{samples: map[string][]sample{
		"x": {{cpu: 20, plain: 10}, {cpu: 80, plain: 40}, {cpu: 60, plain: 20}},
	}}
	if got, want := b.times("x"), (spread{2, 2, 3}); got != want {
		t.Errorf("times: %v, want %v", got, want)
	}
	if got := b.above("x"); got != 40 {
		t.Errorf("above: %v, want 40", got)
	}
	if got, want := spreadOf([]float64{4, 1, 3, 2}), (spread{1, 2.5, 4}); got != want {
		t.Errorf("spreadOf: %v, want %v", got, want)
	}
}
