// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// sizes are the answers that are asked for.
var sizes = map[string]int{"small": 70, "10k": 10 << 10, "1m": 1 << 20}

// runApp is an app server with answers of some sizes.
func runApp(name, addr string) error {
	mux := http.NewServeMux()
	for path, n := range sizes {
		body := []byte(strings.Repeat("x", n))
		length := strconv.Itoa(n)
		mux.HandleFunc("/"+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", length)
			w.Header().Set("Content-Type", "text/plain")
			_, _ = w.Write(body)
		})
	}
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(name)) })
	return (&http.Server{Addr: addr, Handler: mux, ReadHeaderTimeout: 10 * time.Second}).ListenAndServe()
}
