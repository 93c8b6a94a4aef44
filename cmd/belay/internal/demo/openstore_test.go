// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
)

func TestStoreInPostgres(t *testing.T) {
	p := servertest.StartPostgres(t)
	s, done, err := openStore(t.Context(), p.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	id := session.ID{Generation: 1}
	if err := s.Create(t.Context(), id, session.Record{Expires: time.Now().Add(time.Hour)}); err != nil {
		t.Error(err)
	}
	if _, err := s.Load(t.Context(), id); err != nil {
		t.Error(err)
	}
}

func TestStoreKinds(t *testing.T) {
	for raw, want := range map[string]string{
		"redis://h:1": "redis", "nats://h:1": "nats", "postgres://u@h:1,g:2/db": "postgres", "postgresql://h/db": "postgres",
	} {
		if kind, err := storeKind(raw); err != nil || kind != want {
			t.Errorf("%s: %q, %v, want %s", raw, kind, err, want)
		}
	}
	for _, raw := range []string{"h:1", "postgres://", "mysql://h:1", ""} {
		if _, err := storeKind(raw); err == nil || !strings.Contains(err.Error(), "postgres://USER@HOST:PORT/NAME") {
			t.Errorf("%q: %v, want an error that says what to write", raw, err)
		}
	}
}
