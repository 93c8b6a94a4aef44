// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"time"
)

const printed = `Running 2s test @ http://127.0.0.1:1/small
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     6.15ms    1.02ms  21.30ms   88.12%
    Req/Sec    10.31k   402.12    11.07k    75.00%
  Latency Distribution
     50%    6.02ms
     75%    6.40ms
     90%    7.01ms
     99%  9.50ms
  20000 requests in 2.00s, 3.21MB read
Requests/sec:  10000.50
Transfer/sec:      1.60MB
`

func TestParse(t *testing.T) {
	r, err := parse(printed, time.Second)
	if err != nil || r != (result{cpu: 50, p99: 9.5, rate: 10000.5}) {
		t.Error(r, err)
	}
	for name, text := range map[string]string{
		"errors": printed + "  Non-2xx or 3xx responses: 3\n",
		"few":    strings.Replace(printed, "20000 requests", "20 requests", 1),
		"none":   "",
	} {
		if _, err := parse(text, time.Second); err == nil {
			t.Error("taken for a measurement:", name)
		}
	}
}
