// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// tracer makes one span for each request, as part of the trace that the client
// began (W3C Trace Context), and has the servers go on under it.
type tracer struct{ t trace.Tracer } // nil: there are no spans, and headers pass as they are

func newTracer(p trace.TracerProvider) tracer {
	if p == nil {
		return tracer{}
	}
	return tracer{p.Tracer("github.com/belay-ha/belay/server")}
}

var w3c = propagation.TraceContext{}

// begin starts the span of a request. What the client said of the trace is
// replaced in its header.
func (t tracer) begin(x *exchange) {
	if t.t == nil {
		return
	}
	carrier := propagation.HeaderCarrier(x.r.Header)
	ctx := w3c.Extract(x.ctx, carrier)
	ctx, x.span = t.t.Start(ctx, "belay "+x.p.cfg.Name, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("http.request.method", x.r.Method),
		attribute.String("http.route", x.site.name),
		attribute.String("belay.pool", x.p.cfg.Name),
	))
	x.r.Header.Del("Traceparent")
	x.r.Header.Del("Tracestate")
	w3c.Inject(ctx, carrier)
}

// end tells what became of the request.
func (t tracer) end(x *exchange) {
	if x.span == nil {
		return
	}
	x.span.SetAttributes(
		attribute.Int("http.response.status_code", x.status),
		attribute.String("belay.outcome", x.outcome),
		attribute.StringSlice("belay.servers", x.servers),
		attribute.StringSlice("belay.retries", x.retries),
	)
	if x.status >= http.StatusInternalServerError {
		x.span.SetStatus(codes.Error, x.outcome)
	}
	x.span.End()
}
