// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package otel_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
	"github.com/belay-ha/belay/session/otel"
	"github.com/belay-ha/belay/session/storetest"
)

func memory(t *testing.T) *memstore.Store {
	t.Helper()
	s, err := memstore.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func recorded(t *testing.T, store session.Store) (*otel.Store, *tracetest.SpanRecorder, trace.TracerProvider) {
	t.Helper()
	rec := tracetest.NewSpanRecorder()
	p := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(rec))
	s, err := otel.Wrap(store, p)
	if err != nil {
		t.Fatal(err)
	}
	return s, rec, p
}

func TestConformance(t *testing.T) {
	for name, p := range map[string]trace.TracerProvider{
		"sdk": sdktrace.NewTracerProvider(), "noop": noop.NewTracerProvider(),
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Config{FakeClock: true}.Run(t, func(t *testing.T) session.Store {
				s, err := otel.Wrap(memory(t), p)
				if err != nil {
					t.Fatal(err)
				}
				return s
			})
		})
	}
}

// said is what a span tells, in one line.
func said(s sdktrace.ReadOnlySpan) string {
	var attrs []string
	for _, a := range s.Attributes() {
		if a.Key != "belay.session.backend" {
			attrs = append(attrs, strings.TrimPrefix(string(a.Key), "belay.session.")+"="+a.Value.String())
		}
	}
	slices.Sort(attrs)
	return fmt.Sprint(s.Name(), " ", strings.Join(attrs, " "), " ", s.Status().Code, s.Status().Description)
}

func TestOneSpanPerCall(t *testing.T) {
	s, spans, _ := recorded(t, memory(t))
	ctx := t.Context()
	id := session.ID{Hash: [20]byte{1}}
	rec := session.Record{Rev: session.Rev{N: 1}, Owner: "jane", Expires: time.Now().Add(time.Hour)}
	next := rec
	next.Rev = rec.Rev.Next()
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, _ = s.Load(ctx, id)
	_ = s.Create(ctx, id, rec)
	_ = s.Create(ctx, id, rec)
	_, _ = s.Load(ctx, id)
	_ = s.Update(ctx, id, next, rec.Rev)
	_ = s.Update(ctx, id, next, rec.Rev)
	_ = s.Touch(ctx, id, rec.Expires.Add(time.Hour))
	_ = s.Delete(ctx, id, session.ID{Hash: [20]byte{2}})
	_, _ = s.Load(ended, id)
	want := []string{
		"session.load outcome=not_found Unset",
		"session.create outcome=ok Unset",
		"session.create outcome=exists Unset",
		"session.load outcome=ok Unset",
		"session.update outcome=ok Unset",
		"session.update outcome=conflict Unset",
		"session.touch outcome=ok Unset",
		"session.delete count=2 outcome=ok Unset",
		"session.load outcome=canceled Errorcanceled",
	}
	var got []string
	for _, s := range spans.Ended() {
		got = append(got, said(s))
		if s.SpanKind() != trace.SpanKindClient {
			t.Errorf("%s: kind %v", s.Name(), s.SpanKind())
		}
		if !slices.Contains(s.Attributes(), attribute.String("belay.session.backend", "*memstore.Store")) {
			t.Errorf("%s: does not name the store: %v", s.Name(), s.Attributes())
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// failing answers err to every Load, and says below which span it was called.
type failing struct {
	session.Store
	err   error
	under trace.SpanContext
}

func (f *failing) Load(ctx context.Context, _ session.ID) (session.Record, error) {
	f.under = trace.SpanContextFromContext(ctx)
	return session.Record{}, f.err
}

func TestOutcomeOfErrors(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
		code codes.Code
	}{
		{fmt.Errorf("x: %w", session.ErrNotFound), "not_found", codes.Unset},
		{session.ErrCorrupt, "corrupt", codes.Unset},
		{fmt.Errorf("x: %w", session.ErrNewer), "newer", codes.Error},
		{session.ErrTooLarge, "too_large", codes.Error},
		{session.ErrUnavailable, "unavailable", codes.Error},
		{fmt.Errorf("%w: %w", session.ErrUnavailable, context.DeadlineExceeded), "deadline", codes.Error},
		{errors.New("key s:secret-id is odd"), "error", codes.Error},
	} {
		s, spans, _ := recorded(t, &failing{err: tt.err})
		if _, err := s.Load(t.Context(), session.ID{}); !errors.Is(err, tt.err) {
			t.Errorf("%v became %v", tt.err, err)
		}
		span := spans.Ended()[0]
		if got := said(span); !strings.Contains(got, "outcome="+tt.want+" ") || span.Status().Code != tt.code {
			t.Errorf("%v: %s", tt.err, got)
		}
		if text := fmt.Sprint(span.Attributes(), span.Status(), span.Events()); strings.Contains(text, "secret") {
			t.Errorf("the span tells the error's text: %s", text)
		}
	}
}

func TestSpansNest(t *testing.T) {
	under := &failing{err: session.ErrNotFound}
	s, spans, p := recorded(t, under)
	ctx, parent := p.Tracer("app").Start(t.Context(), "request")
	_, _ = s.Load(ctx, session.ID{})
	parent.End()
	load := spans.Ended()[0]
	if load.Parent().SpanID() != parent.SpanContext().SpanID() {
		t.Error("the span is not a child of the request's")
	}
	if under.under.SpanID() != load.SpanContext().SpanID() {
		t.Error("the store below does not see the span in its context")
	}
}

func TestNoIDInSpans(t *testing.T) {
	s, spans, _ := recorded(t, memory(t))
	m, err := session.New(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	name := session.NewKey[string]("name")
	var key string
	h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess, err := m.Get(r.Context())
		if err != nil {
			t.Error(err)
		}
		name.Set(sess, "value-of-jane")
		if err := sess.Renew(r.Context(), session.ForUser("owner-jane")); err != nil {
			t.Error(err)
		}
	}))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	token := w.Result().Cookies()[0].Value
	for info, err := range m.Sessions(t.Context(), "owner-jane") {
		if err != nil {
			t.Fatal(err)
		}
		key = info.ID.Key()
	}
	if key == "" || len(spans.Ended()) == 0 {
		t.Fatal("nothing was recorded")
	}
	for _, span := range spans.Ended() {
		text := fmt.Sprint(span.Name(), span.Attributes(), span.Status(), span.Events())
		for _, secret := range []string{token, key, key[:8], "jane"} {
			if strings.Contains(text, secret) {
				t.Errorf("%q is in %s", secret, text)
			}
		}
	}
}

func TestCapabilitiesAreFoundBelow(t *testing.T) {
	under := memory(t)
	s, spans, _ := recorded(t, under)
	ix, ok := session.Capability[session.Indexer](s)
	if !ok || ix != session.Indexer(under) {
		t.Fatal("the index is hidden")
	}
	if err := ix.RaiseEpoch(t.Context(), "jane"); err != nil {
		t.Fatal(err)
	}
	if n := len(spans.Ended()); n != 0 {
		t.Errorf("%d spans of index calls: the package's introduction says there are none", n)
	}
}

func TestWrapNeedsBoth(t *testing.T) {
	if _, err := otel.Wrap(nil, noop.NewTracerProvider()); err == nil {
		t.Error("no store: accepted")
	}
	if _, err := otel.Wrap(memory(t), nil); err == nil {
		t.Error("no provider: accepted")
	}
}
