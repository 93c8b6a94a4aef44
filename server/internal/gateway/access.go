// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"log/slog"
	"math/rand/v2"
	"time"
)

// well reports whether there is nothing about the request that an operator
// would want to see.
func (x *exchange) well() bool {
	return x.status < 400 && !x.cut && len(x.retries) == 0
}

// log writes the line of one request. Never cookies, never the query: both may
// hold secrets.
func (x *exchange) log() {
	if x.g.access == nil || x.now.log.Off {
		return
	}
	if s := x.now.log.Sample; s > 0 && s < 1 && x.well() && rand.Float64() >= s {
		return
	}
	client := ""
	if x.client.IP.IsValid() {
		client = x.client.IP.String()
	}
	route := ""
	if x.site != nil {
		route = x.site.name
	}
	server := ""
	if len(x.servers) > 0 {
		server = x.servers[len(x.servers)-1]
	}
	attrs := make([]slog.Attr, 0, 13)
	attrs = append(attrs,
		slog.String("client", client),
		slog.String("method", x.r.Method),
		slog.String("host", x.r.Host),
		slog.String("path", x.r.URL.Path),
		slog.Int("status", x.status),
		slog.Int64("bytes", x.bytes),
		slog.Float64("duration_ms", float64(time.Since(x.start).Microseconds())/1000),
		slog.String("route", route),
		slog.String("server", server),
		slog.Int("attempts", len(x.servers)),
		slog.String("outcome", x.outcome),
	)
	if len(x.retries) > 0 {
		attrs = append(attrs, slog.Any("tried", x.servers), slog.Any("retries", x.retries))
	}
	x.g.access.LogAttrs(x.ctx, slog.LevelInfo, "request", attrs...)
}
