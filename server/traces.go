// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/belay-ha/belay/server/internal/config"
)

// exportTimeout bounds one delivery of spans; what cannot be delivered is dropped.
const exportTimeout = 10 * time.Second

// tracing returns what makes spans, and a function that delivers the last ones.
// A provider that the caller gave is used as it is, and his to end.
func tracing(given trace.TracerProvider, cfg *config.Traces, log *slog.Logger) (trace.TracerProvider, func()) {
	if given != nil || cfg == nil {
		return given, func() {}
	}
	p := sdk.NewTracerProvider(
		sdk.WithBatcher(&otlp{endpoint: cfg.Endpoint, service: cfg.Service, log: log}, sdk.WithExportTimeout(exportTimeout)),
		sdk.WithSampler(sdk.ParentBased(sdk.TraceIDRatioBased(cfg.Ratio))),
	)
	return p, func() {
		ctx, cancel := context.WithTimeout(context.Background(), exportTimeout)
		defer cancel()
		_ = p.Shutdown(ctx) // what the exporter could not deliver is in the log
	}
}

// otlp delivers spans over HTTP in the JSON form of the OpenTelemetry protocol,
// which every collector takes beside the binary one, and which needs no
// generated code.
type otlp struct {
	endpoint, service string
	log               *slog.Logger
	client            http.Client
}

var _ sdk.SpanExporter = (*otlp)(nil)

type (
	otlpAttribute struct {
		Key   string    `json:"key"`
		Value otlpValue `json:"value"`
	}
	otlpValue struct {
		String *string    `json:"stringValue,omitempty"`
		Int    *string    `json:"intValue,omitempty"` // 64 bits do not fit into a JSON number
		Array  *otlpArray `json:"arrayValue,omitempty"`
	}
	otlpArray struct {
		Values []otlpValue `json:"values"`
	}
	otlpStatus struct {
		Code    int    `json:"code,omitempty"`
		Message string `json:"message,omitempty"`
	}
	otlpSpan struct {
		TraceID    string          `json:"traceId"`
		SpanID     string          `json:"spanId"`
		Parent     string          `json:"parentSpanId,omitempty"`
		State      string          `json:"traceState,omitempty"`
		Name       string          `json:"name"`
		Kind       int             `json:"kind"`
		Start      string          `json:"startTimeUnixNano"`
		End        string          `json:"endTimeUnixNano"`
		Attributes []otlpAttribute `json:"attributes"`
		Status     otlpStatus      `json:"status"`
	}
	otlpScope struct {
		Scope struct {
			Name string `json:"name"`
		} `json:"scope"`
		Spans []otlpSpan `json:"spans"`
	}
	otlpResource struct {
		Resource struct {
			Attributes []otlpAttribute `json:"attributes"`
		} `json:"resource"`
		Scopes []otlpScope `json:"scopeSpans"`
	}
	otlpBatch struct {
		Resources []otlpResource `json:"resourceSpans"`
	}
)

func text(s string) otlpValue { return otlpValue{String: &s} }

// ExportSpans implements sdktrace.SpanExporter. It logs its errors: the SDK
// would tell them to the whole process.
func (e *otlp) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	if err := e.export(ctx, spans); err != nil {
		e.log.Warn("spans were not delivered", "spans", len(spans), "error", err)
	}
	return nil
}

func (e *otlp) export(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	var r otlpResource
	r.Resource.Attributes = []otlpAttribute{{"service.name", text(e.service)}}
	byScope := map[string]int{}
	for _, s := range spans {
		name := s.InstrumentationScope().Name
		i, ok := byScope[name]
		if !ok {
			i = len(r.Scopes)
			byScope[name] = i
			r.Scopes = append(r.Scopes, otlpScope{})
			r.Scopes[i].Scope.Name = name
		}
		r.Scopes[i].Spans = append(r.Scopes[i].Spans, convert(s))
	}
	body, err := json.Marshal(otlpBatch{[]otlpResource{r}})
	if err != nil {
		return fmt.Errorf("server: traces: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.endpoint, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("server: traces: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := e.client.Do(req)
	if err != nil {
		return fmt.Errorf("server: traces: %w; is a collector running there? (traces.endpoint)", err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16))
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("server: traces: %s answered %s; the endpoint is the whole URL, like http://127.0.0.1:4318/v1/traces", e.endpoint, resp.Status)
	}
	return nil
}

// Shutdown implements sdktrace.SpanExporter.
func (e *otlp) Shutdown(context.Context) error {
	e.client.CloseIdleConnections()
	return nil
}

func convert(s sdk.ReadOnlySpan) otlpSpan {
	c := s.SpanContext()
	out := otlpSpan{
		TraceID: c.TraceID().String(), SpanID: c.SpanID().String(), State: c.TraceState().String(),
		Name: s.Name(), Kind: int(s.SpanKind()),
		Start: strconv.FormatInt(s.StartTime().UnixNano(), 10), End: strconv.FormatInt(s.EndTime().UnixNano(), 10),
	}
	if p := s.Parent(); p.HasSpanID() {
		out.Parent = p.SpanID().String()
	}
	for _, a := range s.Attributes() {
		out.Attributes = append(out.Attributes, otlpAttribute{string(a.Key), value(a.Value)})
	}
	switch status := s.Status(); status.Code {
	case codes.Ok:
		out.Status.Code = 1
	case codes.Error:
		out.Status = otlpStatus{2, status.Description}
	}
	return out
}

func value(v attribute.Value) otlpValue {
	switch v.Type() {
	case attribute.INT64:
		n := strconv.FormatInt(v.AsInt64(), 10)
		return otlpValue{Int: &n}
	case attribute.STRINGSLICE:
		list := otlpArray{Values: []otlpValue{}}
		for _, s := range v.AsStringSlice() {
			list.Values = append(list.Values, text(s))
		}
		return otlpValue{Array: &list}
	}
	return text(v.String())
}
