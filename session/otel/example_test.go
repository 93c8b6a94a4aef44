// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package otel_test

import (
	"context"
	"fmt"
	"log"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
	"github.com/belay-ha/belay/session/otel"
)

func ExampleWrap() {
	spans := tracetest.NewSpanRecorder() // in a program: an exporter
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))

	store, err := memstore.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	traced, err := otel.Wrap(store, provider)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := session.New(traced, nil); err != nil {
		log.Fatal(err)
	}

	// What a Manager does for a cookie that leads nowhere:
	_, err = traced.Load(context.Background(), session.ID{})
	fmt.Println(err)
	for _, s := range spans.Ended() {
		fmt.Println(s.Name())
		for _, a := range s.Attributes() {
			fmt.Println(" ", a.Key, a.Value.String())
		}
	}
	// Output:
	// session: not found
	// session.load
	//   belay.session.backend *memstore.Store
	//   belay.session.outcome not_found
}
