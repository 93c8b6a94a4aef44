// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway"
)

// The process that takes over does not begin from nothing: a server that has just
// come back still needs its passes, one that was up is up at once, and one that
// is checked in another way is checked first.
func TestHealthIsHandedOver(t *testing.T) {
	run(t, 3, nil, func(w *world) {
		w.apps[0].ln.kill()
		w.get("/")
		w.get("/")
		w.get("/")
		if w.state("app1") != "down" {
			w.Fatal(w.state("app1"))
		}
		text, err := json.Marshal(w.g.Health())
		if err != nil {
			w.Fatal(err)
		}
		var known []gateway.ServerHealth
		if err := json.Unmarshal(text, &known); err != nil {
			w.Fatal(err)
		}
		next := config("app1", "app2", "app3")
		next.Pools[0].Servers[2].Address = "app3:81" // somebody else
		g := gateway.New(next, &gateway.Options{Dial: w.net.dial, Health: known})
		var got strings.Builder
		for _, s := range g.Servers() {
			got.WriteString(s.State + " ")
			if s.Name == "app2" && !s.Library {
				w.Error("what is known of the library is lost")
			}
		}
		if got.String() != "down up down " {
			w.Error(got.String())
		}
		if n := len(g.Health()); n != 2 {
			w.Errorf("%d servers are known before the first check, want two", n)
		}
	})
}

// Without it the first check decides alone.
func TestHealthIsNotGuessed(t *testing.T) {
	run(t, 1, nil, func(w *world) {
		g := gateway.New(config("app1"), &gateway.Options{Dial: w.net.dial})
		if s := g.Servers()[0]; s.State != "down" || len(g.Health()) != 0 {
			w.Error(s)
		}
		time.Sleep(time.Second)
	})
}
