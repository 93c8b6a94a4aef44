// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/belay-ha/belay/internal/servertest"

	"github.com/rogpeppe/go-internal/testscript"
)

// The scripts run the real binary as processes of their own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"belay": main,
		"app":   app,
	})
}

func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			addrs := servertest.FreeAddrs(t, 3)
			for i, name := range []string{"FRONT", "ADMIN", "APP"} {
				env.Setenv(name, addrs[i])
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"await": await,
			"expand": func(ts *testscript.TestScript, _ bool, args []string) {
				text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
			},
		},
	})
}

// app is an app server: it answers hello until interrupted.
func app() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	srv := &http.Server{Addr: os.Args[1], Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("hello\n"))
	})}
	context.AfterFunc(ctx, func() { srv.Close() })
	_ = srv.ListenAndServe()
}

// await ADDRESS waits until a process listens there; with ! it checks that none does.
func await(ts *testscript.TestScript, neg bool, args []string) {
	for ctx := context.Background(); ; {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", args[0])
		if err == nil {
			c.Close()
		}
		if neg {
			if err == nil {
				ts.Fatalf("somebody listens on %s", args[0])
			}
			return
		}
		if err == nil {
			return
		}
	}
}
