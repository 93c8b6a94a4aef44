// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/pprof"
	"strings"
	"time"
)

// leavesNothing runs f, and says so if a goroutine that began in it does not end.
// Goroutines inherit labels, so those of other tests are not counted.
func leavesNothing(ctx context.Context, patience time.Duration, f func(ctx context.Context) error) error {
	name := newID().Key()
	var err error
	pprof.Do(ctx, pprof.Labels("storetest", name), func(ctx context.Context) { err = f(ctx) })
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		left := labelled(name)
		if left == "" {
			return err
		}
		if time.Now().After(deadline) {
			return errors.Join(err, fmt.Errorf("a goroutine outlives the store that was closed:\n%s", left))
		}
		<-tick.C
	}
}

// apart runs f within leavesNothing without being counted: goroutines of servers
// are none of the store's.
func apart(ctx context.Context, f func()) {
	pprof.SetGoroutineLabels(context.Background())
	defer pprof.SetGoroutineLabels(ctx)
	f()
}

// labelled is one of the goroutines with a label, or empty.
func labelled(name string) string {
	var b bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&b, 1); err != nil {
		return err.Error()
	}
	for stack := range strings.SplitSeq(b.String(), "\n\n") {
		if strings.Contains(stack, name) {
			return stack
		}
	}
	return ""
}
