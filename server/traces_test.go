// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/belay-ha/belay/server/internal/config"
)

// The last spans are delivered at the end, in the form that collectors take.
func TestSpansAreDelivered(t *testing.T) {
	got := make(chan string, 10)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- r.Method + " " + r.URL.Path + " " + r.Header.Get("Content-Type") + "\n" + string(b)
	}))
	defer collector.Close()
	p, end := tracing(nil, &config.Traces{Endpoint: collector.URL + "/v1/traces", Ratio: 1, Service: "front"}, slog.New(slog.DiscardHandler))
	ctx, parent := p.Tracer("scope").Start(t.Context(), "outer")
	_, span := p.Tracer("scope").Start(ctx, "inner", trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("a", "text"), attribute.Int("n", 7), attribute.StringSlice("list", []string{"x", "y"})))
	span.SetStatus(codes.Error, "broken")
	span.End()
	parent.End()
	end()
	var request string
	select {
	case request = <-got:
	default:
		t.Fatal("the end did not wait until the spans were there")
	}
	head, body, _ := strings.Cut(request, "\n")
	if head != "POST /v1/traces application/json" {
		t.Error(head)
	}
	var batch otlpBatch
	d := json.NewDecoder(strings.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&batch); err != nil {
		t.Fatal(err)
	}
	s := batch.Resources[0].Scopes[0].Spans[0]
	c := span.SpanContext()
	if s.TraceID != c.TraceID().String() || s.SpanID != c.SpanID().String() || s.Parent != parent.SpanContext().SpanID().String() ||
		s.Name != "inner" || s.Kind != 2 || s.Status != (otlpStatus{2, "broken"}) || len(s.Start) != 19 || s.End < s.Start {
		t.Errorf("%+v", s)
	}
	for _, want := range []string{
		`{"key":"service.name","value":{"stringValue":"front"}}`, `{"key":"a","value":{"stringValue":"text"}}`,
		`{"key":"n","value":{"intValue":"7"}}`, `{"key":"list","value":{"arrayValue":{"values":[{"stringValue":"x"},{"stringValue":"y"}]}}}`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in %s", want, body)
		}
	}
}

func TestTracesThatCannotBeDeliveredSaySo(t *testing.T) {
	refusing := httptest.NewServer(http.NotFoundHandler())
	defer refusing.Close()
	var log bytes.Buffer
	p, end := tracing(nil, &config.Traces{Endpoint: refusing.URL, Ratio: 1}, slog.New(slog.NewTextHandler(&log, nil)))
	_, span := p.Tracer("x").Start(t.Context(), "x")
	span.End()
	end()
	if !strings.Contains(log.String(), "404 Not Found; the endpoint is the whole URL") {
		t.Error(log.String())
	}
}

func TestNoTracesUnlessAskedFor(t *testing.T) {
	p, end := tracing(nil, nil, nil)
	defer end()
	if p != nil {
		t.Error(p)
	}
	_, none := tracing(nil, &config.Traces{Endpoint: "http://127.0.0.1:1/", Ratio: 0}, slog.New(slog.NewTextHandler(failing{t}, nil)))
	none()
}

// failing is a log in which nothing may stand.
type failing struct{ t *testing.T }

func (f failing) Write(p []byte) (int, error) {
	f.t.Errorf("logged %s", p)
	return 0, errors.New(fmt.Sprint(f.t.Name(), " logs nothing"))
}
