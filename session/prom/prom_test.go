// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package prom_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
	"github.com/belay-ha/belay/session/prom"
)

// call calls a hook of any kind. Its last bool, if there is one, is flag.
func call(hook reflect.Value, flag bool) {
	args := make([]reflect.Value, hook.Type().NumIn())
	for i := range args {
		switch in := hook.Type().In(i); in.Kind() {
		case reflect.Interface:
			args[i] = reflect.Zero(in)
			if in == reflect.TypeFor[context.Context]() {
				args[i] = reflect.ValueOf(context.Background())
			}
		case reflect.Bool:
			args[i] = reflect.ValueOf(flag)
		default:
			args[i] = reflect.Zero(in)
		}
	}
	hook.Call(args)
}

// total is the sum of all time series of a registry.
func total(t *testing.T, reg *prometheus.Registry) (sum float64, series int) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue()
			series++
		}
	}
	return sum, series
}

// A hook that the core gains must be counted, or this is red.
func TestEveryHookCountsOnce(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	hooks, err := prom.Hooks(reg)
	if err != nil {
		t.Fatal(err)
	}
	_, before := total(t, reg)
	v := reflect.ValueOf(hooks)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if v.Field(i).IsNil() {
			t.Errorf("%s is not counted", name)
			continue
		}
		was, _ := total(t, reg)
		call(v.Field(i), true)
		if now, _ := total(t, reg); now != was+1 {
			t.Errorf("%s raised the counters by %v", name, now-was)
		}
	}
	for range 2 { // once more than with true
		hooks.Refused(t.Context(), false)
	}
	for _, op := range []string{"load", "create", "update", "touch", "delete", "index", "lock", "4f1c-an-id"} {
		hooks.StoreError(t.Context(), op, errors.New("cable cut"))
	}
	if _, after := total(t, reg); after != before {
		t.Errorf("%d time series at first, %d after use: a label is not bounded", before, after)
	}
	want := `
# HELP belay_session_conflicts_total Commits that met a newer record and applied their changes to that.
# TYPE belay_session_conflicts_total counter
belay_session_conflicts_total 1
# HELP belay_session_refused_attempts_total Attempts that came after the deadline their gateway gave them.
# TYPE belay_session_refused_attempts_total counter
belay_session_refused_attempts_total{stage="before_commit"} 1
belay_session_refused_attempts_total{stage="before_handler"} 2
# HELP belay_session_store_errors_total Store calls that failed: errors, not answers such as not found.
# TYPE belay_session_store_errors_total counter
belay_session_store_errors_total{op="create"} 1
belay_session_store_errors_total{op="delete"} 1
belay_session_store_errors_total{op="epoch"} 0
belay_session_store_errors_total{op="extend"} 0
belay_session_store_errors_total{op="index"} 1
belay_session_store_errors_total{op="list"} 0
belay_session_store_errors_total{op="load"} 1
belay_session_store_errors_total{op="lock"} 1
belay_session_store_errors_total{op="other"} 2
belay_session_store_errors_total{op="patch"} 0
belay_session_store_errors_total{op="revoke"} 0
belay_session_store_errors_total{op="touch"} 1
belay_session_store_errors_total{op="unindex"} 0
belay_session_store_errors_total{op="unlock"} 0
belay_session_store_errors_total{op="update"} 1
`
	err = testutil.GatherAndCompare(reg, strings.NewReader(want),
		"belay_session_conflicts_total", "belay_session_refused_attempts_total", "belay_session_store_errors_total")
	if err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("names: %v, %v", problems, err)
	}
}

func TestASecondRegistrationFailsAndLeavesNothing(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	taken := prometheus.NewCounter(prometheus.CounterOpts{Name: "belay_session_conflicts_total", Help: "Commits that met a newer record and applied their changes to that."})
	reg.MustRegister(taken)
	if _, err := prom.Hooks(reg); err == nil {
		t.Fatal("registered over somebody else's metric")
	}
	reg.Unregister(taken)
	if _, err := prom.Hooks(reg); err != nil {
		t.Fatalf("after a failure: %v", err)
	}
	if _, err := prom.Hooks(reg); err == nil {
		t.Error("registered twice")
	}
	if _, err := prom.Hooks(nil); err == nil {
		t.Error("no registerer: accepted")
	}
}

func TestTwoManagersWithALabelEach(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	for _, app := range []string{"shop", "admin"} {
		hooks, err := prom.Hooks(prometheus.WrapRegistererWith(prometheus.Labels{"app": app}, reg))
		if err != nil {
			t.Fatal(err)
		}
		hooks.Conflict(t.Context(), session.Info{})
	}
	want := `
# HELP belay_session_conflicts_total Commits that met a newer record and applied their changes to that.
# TYPE belay_session_conflicts_total counter
belay_session_conflicts_total{app="admin"} 1
belay_session_conflicts_total{app="shop"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "belay_session_conflicts_total"); err != nil {
		t.Error(err)
	}
}

// A hook that the core gains must be joined, or this is red.
func TestJoinCallsBothInOrder(t *testing.T) {
	typ := reflect.TypeFor[session.Hooks]()
	for i := range typ.NumField() {
		var order string
		named := func(name string) session.Hooks {
			var h session.Hooks
			reflect.ValueOf(&h).Elem().Field(i).Set(reflect.MakeFunc(typ.Field(i).Type, func([]reflect.Value) []reflect.Value {
				order += name
				return nil
			}))
			return h
		}
		for _, tt := range []struct {
			a, b session.Hooks
			want string
		}{
			{named("a"), named("b"), "ab"},
			{named("a"), session.Hooks{}, "a"},
			{session.Hooks{}, named("b"), "b"},
			{session.Hooks{}, session.Hooks{}, ""},
		} {
			order = ""
			joined := reflect.ValueOf(prom.Join(tt.a, tt.b)).Field(i)
			if !joined.IsNil() {
				call(joined, true)
			} else if tt.want != "" {
				t.Errorf("%s: forgotten", typ.Field(i).Name)
				continue
			}
			if order != tt.want {
				t.Errorf("%s: called %q, want %q", typ.Field(i).Name, order, tt.want)
			}
		}
	}
}

func TestCountingDoesNotAllocate(t *testing.T) {
	hooks, err := prom.Hooks(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	n := testing.AllocsPerRun(100, func() {
		hooks.Created(ctx, session.Info{})
		hooks.Refused(ctx, true)
		hooks.StoreError(ctx, "load", nil)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// The counters at work, under a real Manager.
func TestManagerIsCounted(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	counters, err := prom.Hooks(reg)
	if err != nil {
		t.Fatal(err)
	}
	mine := 0
	store, err := memstore.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := session.New(store, &session.Options{Hooks: prom.Join(counters, session.Hooks{
		Created: func(context.Context, session.Info) { mine++ },
	})})
	if err != nil {
		t.Fatal(err)
	}
	visits := session.NewKey[int]("visits")
	h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		if err != nil {
			t.Error(err)
		}
		visits.Set(s, 1)
	}))
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.AddCookie(&http.Cookie{Name: "__Host-id", Value: "forged"})
	h.ServeHTTP(httptest.NewRecorder(), r)
	want := `
# HELP belay_session_events_total Events in the life of sessions.
# TYPE belay_session_events_total counter
belay_session_events_total{event="bad_token"} 1
belay_session_events_total{event="corrupt"} 0
belay_session_events_total{event="created"} 1
belay_session_events_total{event="destroyed"} 0
belay_session_events_total{event="dropped"} 0
belay_session_events_total{event="expired"} 0
belay_session_events_total{event="lost"} 0
belay_session_events_total{event="renewed"} 0
belay_session_events_total{event="rollback"} 0
belay_session_events_total{event="several_tokens"} 0
belay_session_events_total{event="taken_over"} 0
belay_session_events_total{event="undecodable"} 0
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "belay_session_events_total"); err != nil {
		t.Error(err)
	}
	if mine != 1 {
		t.Errorf("the user's own hook was called %d times", mine)
	}
}
