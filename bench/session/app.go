// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// usage is what a process has used, or did use between two moments.
type usage struct {
	cpu           time.Duration // user and system
	allocs, bytes uint64
}

// runApp is the process that is measured: a server on loopback. It prints its
// address, then obeys "begin LABEL", which it answers with "ok", and "end", which
// it answers with what it used since, and ends when its input does.
func runApp(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	if len(args) != 3 {
		return errors.New("this argument is for the program itself")
	}
	name, redis, profiles := args[0], args[1], args[2]
	b, ok := backends[name]
	if !ok {
		return fmt.Errorf("no app %q", name)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	h, err := b.open(ctx, redis)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer ln.Close()
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 10 * time.Minute}
	go func() { _ = server.Serve(ln) }() // ends with ln
	fmt.Fprintln(out, ln.Addr())
	return obey(in, out, profiles)
}

func obey(in io.Reader, out io.Writer, profiles string) error {
	var before usage
	var profile *os.File
	for lines := bufio.NewScanner(in); lines.Scan(); {
		verb, label, _ := strings.Cut(lines.Text(), " ")
		switch verb {
		case "begin":
			runtime.GC() // each case begins with a clean heap
			if profiles != "" {
				f, err := os.Create(filepath.Join(profiles, label+".pprof"))
				if err != nil {
					return err
				}
				if err := pprof.StartCPUProfile(f); err != nil {
					return err
				}
				profile = f
			}
			before = used()
			fmt.Fprintln(out, "ok")
		case "end":
			after := used()
			if profile != nil {
				pprof.StopCPUProfile()
				if err := profile.Close(); err != nil {
					return err
				}
			}
			fmt.Fprintln(out, int64(after.cpu-before.cpu), after.allocs-before.allocs, after.bytes-before.bytes)
		}
	}
	return nil
}

// used asks the kernel, whose clock of a process is exact to the microsecond
// here, and only to the tick in /proc.
func used() usage {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic("bench/session: getrusage: " + err.Error())
	}
	heap := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(heap)
	return usage{
		cpu:    time.Duration(r.Utime.Nano() + r.Stime.Nano()),
		allocs: heap[0].Value.Uint64(),
		bytes:  heap[1].Value.Uint64(),
	}
}

// Pages of every app. The first makes a session, the second reads its counter,
// the third increments it; all answer with the counter.
const (
	pathFill  = "/fill"
	pathRead  = "/read"
	pathWrite = "/write"
)

const (
	cookieName = "id"
	attributes = 10
	counter    = "n"
)

// pages is what an app does with sessions.
type pages struct {
	fill        func(w http.ResponseWriter, r *http.Request) error
	read, write func(w http.ResponseWriter, r *http.Request) (int, error)
	wrap        func(http.Handler) http.Handler // nil: needs none
}

func (p *pages) handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(path string, do func(http.ResponseWriter, *http.Request) (int, error)) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			n, err := do(w, r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = w.Write(strconv.AppendInt(nil, int64(n), 10))
		})
	}
	handle(pathFill, func(w http.ResponseWriter, r *http.Request) (int, error) { return 0, p.fill(w, r) })
	handle(pathRead, p.read)
	handle(pathWrite, p.write)
	if p.wrap != nil {
		return p.wrap(mux)
	}
	return mux
}

func attribute(i int) string { return "key" + strconv.Itoa(i) }

// text is the value of an attribute: 70 bytes.
func text(i int) string { return fmt.Sprintf("%-70s", "the value of attribute "+strconv.Itoa(i)) }
