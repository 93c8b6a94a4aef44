// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package otel

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/belay-ha/belay/session"
)

var _ session.Store = (*Store)(nil)

const scope = "github.com/belay-ha/belay/session/otel"

// Store is a session.Store whose calls are spans. It is safe for concurrent use.
type Store struct {
	store   session.Store
	tracer  trace.Tracer
	started trace.SpanStartOption
}

// Wrap returns the store with spans. The provider is required: for none, use the
// store as it is.
func Wrap(store session.Store, provider trace.TracerProvider) (*Store, error) {
	switch {
	case store == nil:
		return nil, errors.New("otel: wrap: a session.Store is needed")
	case provider == nil:
		return nil, errors.New("otel: wrap: a TracerProvider is needed; there is no global one")
	}
	return &Store{
		store:   store,
		tracer:  provider.Tracer(scope),
		started: trace.WithAttributes(attribute.String("belay.session.backend", fmt.Sprintf("%T", store))),
	}, nil
}

// Unwrap returns the store below, so that what else it can do is found.
func (s *Store) Unwrap() session.Store { return s.store }

// Load implements session.Store.
func (s *Store) Load(ctx context.Context, id session.ID) (rec session.Record, err error) {
	ctx, span := s.start(ctx, "session.load")
	defer func() { end(span, err) }()
	return s.store.Load(ctx, id)
}

// Create implements session.Store.
func (s *Store) Create(ctx context.Context, id session.ID, rec session.Record) (err error) {
	ctx, span := s.start(ctx, "session.create")
	defer func() { end(span, err) }()
	return s.store.Create(ctx, id, rec)
}

// Update implements session.Store.
func (s *Store) Update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) (err error) {
	ctx, span := s.start(ctx, "session.update")
	defer func() { end(span, err) }()
	return s.store.Update(ctx, id, rec, ifRev)
}

// Patch implements session.Patcher; without a span, it is errors.ErrUnsupported if
// the store below is none.
func (s *Store) Patch(ctx context.Context, id session.ID, p session.Patch) (err error) {
	patcher, ok := session.Capability[session.Patcher](s.store)
	if !ok {
		return errors.ErrUnsupported
	}
	ctx, span := s.start(ctx, "session.patch")
	defer func() { end(span, err) }()
	return patcher.Patch(ctx, id, p)
}

// Touch implements session.Store.
func (s *Store) Touch(ctx context.Context, id session.ID, expires time.Time) (err error) {
	ctx, span := s.start(ctx, "session.touch")
	defer func() { end(span, err) }()
	return s.store.Touch(ctx, id, expires)
}

// Delete implements session.Store.
func (s *Store) Delete(ctx context.Context, ids ...session.ID) (err error) {
	ctx, span := s.start(ctx, "session.delete")
	span.SetAttributes(attribute.Int("belay.session.count", len(ids)))
	defer func() { end(span, err) }()
	return s.store.Delete(ctx, ids...)
}

func (s *Store) start(ctx context.Context, name string) (context.Context, trace.Span) {
	return s.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindClient), s.started)
}

func end(span trace.Span, err error) {
	defer span.End()
	if !span.IsRecording() {
		return
	}
	name, failed := outcome(err)
	span.SetAttributes(attribute.String("belay.session.outcome", name))
	if failed {
		span.SetStatus(codes.Error, name)
	}
}

// outcome is a call's end in one word: an error's text may name what it should not.
func outcome(err error) (name string, failed bool) {
	if err == nil {
		return "ok", false
	}
	for _, o := range [...]struct {
		err    error
		name   string
		failed bool
	}{
		{session.ErrNotFound, "not_found", false},
		{session.ErrExists, "exists", false},
		{session.ErrConflict, "conflict", false},
		{session.ErrCorrupt, "corrupt", false},
		{session.ErrNewer, "newer", true},
		{session.ErrTooLarge, "too_large", true},
		{context.Canceled, "canceled", true},
		{context.DeadlineExceeded, "deadline", true},
		{session.ErrUnavailable, "unavailable", true},
	} {
		if errors.Is(err, o.err) {
			return o.name, o.failed
		}
	}
	return "error", true
}
