// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package pebblestore

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// Pebble panics, or asks its logger to end the process: either makes every call fail
// from then on, with the cause, and is logged; the process goes on.
func TestWhatWouldEndTheProcessEndsTheStore(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(e *engine) error{
		"panic": func(e *engine) error { return e.guard(func() error { panic("it broke") }) },
		"fatal": func(e *engine) error { e.Fatalf("it %s", "broke"); return e.failure() },
	} {
		var log bytes.Buffer
		var e engine
		e.init(slog.New(slog.NewTextHandler(&log, nil)))
		if err := e.check(t.Context()); err != nil {
			t.Fatalf("%s: before: %v", name, err)
		}
		if err := end(&e); err == nil || !strings.Contains(err.Error(), "it broke") {
			t.Errorf("%s: who called it gets %v", name, err)
		}
		for range 2 {
			if err := e.check(t.Context()); err == nil || !strings.Contains(err.Error(), "it broke") || !strings.Contains(err.Error(), "restart the process") {
				t.Errorf("%s: a later call gets %v", name, err)
			}
			e.fail(errClosed) // the first is the cause
		}
		select {
		case <-e.failed:
		default:
			t.Errorf("%s: Run is not told", name)
		}
		if !strings.Contains(log.String(), "it broke") {
			t.Errorf("%s: logged %q", name, &log)
		}
	}
}
