// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memcachedstore"
)

// placementRun runs the subcommand.
func placementRun(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := placementCommand()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestPlacementIsToldAndChanged(t *testing.T) {
	a, b, c := servertest.StartMemcached(t), servertest.StartMemcached(t), servertest.StartMemcached(t)
	file := filepath.Join(t.TempDir(), "placement.json")
	must := func(args ...string) string {
		t.Helper()
		out, err := placementRun(t, args...)
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return out
	}
	must("init", file, "a="+a.Addr(), "b="+b.Addr())
	store := "file:" + file
	s, err := memcachedstore.Open(t.Context(), store, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	begin := func(n int) {
		t.Helper()
		for range n {
			id := session.ID{Generation: s.Place()}
			rand.Read(id.Hash[:])
			now := time.Now().Truncate(time.Millisecond)
			rec := session.Record{Rev: session.Rev{N: 1}, Created: now, Expires: now.Add(30 * time.Minute), Ends: now.Add(12 * time.Hour)}
			if err := s.Create(t.Context(), id, rec); err != nil {
				t.Fatal(err)
			}
		}
	}
	begin(20)
	if out := must("--store", store); !strings.Contains(out, "takes new sessions") || !strings.Contains(out, "20 of generation 0") {
		t.Errorf("after 20 sessions:\n%s", out)
	}
	must("--store", store, "append", "a="+a.Addr(), "b="+b.Addr(), "c="+c.Addr())
	must("--store", store, "open", "1")
	must("--store", store, "drain", "0")
	if err := s.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	begin(5)
	var survey memcachedstore.Survey
	if err := json.Unmarshal([]byte(must("--store", store, "--json")), &survey); err != nil {
		t.Fatal(err)
	}
	g := survey.Generations
	if len(g) != 2 || g[0].State != "draining" || g[0].Sessions != 20 || g[1].State != "open" || g[1].Sessions != 5 || len(survey.Nodes) != 3 {
		t.Errorf("%+v", survey)
	}
	if left := time.Until(g[0].EmptyAt); left < 11*time.Hour || left > 12*time.Hour {
		t.Errorf("generation 0 is empty in %v, want 12 hours", left)
	}
	if out := must("--store", store); !strings.Contains(out, "in 11h59m") && !strings.Contains(out, "in 12h0m") {
		t.Errorf("when generation 0 will be empty is not said:\n%s", out)
	}
	if _, err := placementRun(t, "--store", store, "close", "1"); err == nil || !strings.Contains(err.Error(), "open") {
		t.Errorf("closing what is open: %v", err)
	}
	must("--store", store, "close", "0")
	b.Kill()
	if out := must("--store", store); !strings.Contains(out, "closed") || !strings.Contains(out, b.Addr()+"  does not answer") {
		t.Errorf("with a server away:\n%s", out)
	}
}

func TestPlacementSaysWhatIsMissing(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, "--store"},
		{[]string{"--store", "memcached://127.0.0.1:1"}, "127.0.0.1:1"},
		{[]string{"--store", "memcached://127.0.0.1:1", "open", "x"}, "number"},
		{[]string{"--store", "file:/nowhere.json"}, "/nowhere.json"},
		{[]string{"init", filepath.Join(t.TempDir(), "p.json"), "a=h:1", "a=h:2"}, `"a"`},
	} {
		if _, err := placementRun(t, tt.args...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v, want an error with %q", tt.args, err, tt.want)
		}
	}
}
