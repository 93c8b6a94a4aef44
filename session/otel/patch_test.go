// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package otel_test

import (
	"context"
	"errors"
	"testing"

	"go.opentelemetry.io/otel/trace/noop"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
	"github.com/belay-ha/belay/session/otel"
)

type patcher struct {
	session.Store
	patched int
}

func (p *patcher) Patch(context.Context, session.ID, session.Patch) error {
	p.patched++
	return session.ErrConflict
}

func TestPatchesPassThrough(t *testing.T) {
	mem, err := memstore.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	below := &patcher{Store: mem}
	for _, tc := range []struct {
		store session.Store
		want  error
	}{{below, session.ErrConflict}, {mem, errors.ErrUnsupported}} {
		s, err := otel.Wrap(tc.store, noop.NewTracerProvider())
		if err != nil {
			t.Fatal(err)
		}
		p, ok := session.Capability[session.Patcher](s)
		if !ok {
			t.Fatal("no Patcher")
		}
		if err := p.Patch(t.Context(), session.ID{Generation: 1}, session.Patch{}); !errors.Is(err, tc.want) {
			t.Errorf("got %v, want %v", err, tc.want)
		}
	}
	if below.patched != 1 {
		t.Errorf("%d patches reached the store", below.patched)
	}
}
