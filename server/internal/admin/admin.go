// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway"
)

// Control is what the API looks at and changes.
type Control interface {
	Servers() []gateway.ServerInfo
	Drain(name string, deadline time.Duration) error
	SetReady(name string) error
	Maintenance(name string) error
}

var _ Control = (*gateway.Gateway)(nil)

// Process is the program that serves.
type Process interface {
	// Reload reads the configuration again; if that fails, the running one stays.
	Reload(ctx context.Context) error
	// Upgrade lets another process of the program take over.
	Upgrade(ctx context.Context) error
	// Effective returns the running configuration as a file.
	Effective() []byte
	// AllowRemote lets the API be called by host name. Otherwise the Host header
	// must be an IP address or localhost, so that no web page can reach it by
	// pointing its own name here.
	AllowRemote() bool
}

// Handler returns the API, with metrics under /metrics.
func Handler(c Control, metrics http.Handler, p Process, redis Redis) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /v1/servers", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, c.Servers())
	})
	mux.HandleFunc("POST /v1/servers/{name}/drain", func(w http.ResponseWriter, r *http.Request) {
		var deadline time.Duration
		if s := r.URL.Query().Get("deadline"); s != "" {
			var err error
			if deadline, err = time.ParseDuration(s); err != nil || deadline <= 0 {
				fail(w, http.StatusBadRequest, fmt.Errorf("deadline %q is not a time; write it like 30s, or leave it out to wait as long as users come", s))
				return
			}
		}
		order(w, r, c, func(name string) error { return c.Drain(name, deadline) })
	})
	mux.HandleFunc("POST /v1/servers/{name}/ready", func(w http.ResponseWriter, r *http.Request) { order(w, r, c, c.SetReady) })
	mux.HandleFunc("POST /v1/servers/{name}/maintenance", func(w http.ResponseWriter, r *http.Request) { order(w, r, c, c.Maintenance) })
	mux.HandleFunc("GET /v1/config", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(p.Effective())
	})
	mux.HandleFunc("POST /v1/reload", func(w http.ResponseWriter, r *http.Request) { command(w, r, p.Reload, "reloaded") })
	mux.HandleFunc("POST /v1/upgrade", func(w http.ResponseWriter, r *http.Request) { command(w, r, p.Upgrade, "upgraded") })
	redisRoutes(mux, redis)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, http.StatusNotFound, fmt.Errorf("no %s %s here; there are GET /healthz, /metrics, /v1/servers, /v1/config, /v1/redis and POST /v1/servers/{name}/{drain,ready,maintenance}, /v1/redis/{name}/failover, /v1/reload, /v1/upgrade", r.Method, r.URL.Path))
	})
	return guarded(mux, p.AllowRemote)
}

// guarded refuses what a web page of somebody else could send.
func guarded(mux http.Handler, anyHost func() bool) http.Handler {
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fail(w, http.StatusForbidden, errors.New("requests from other web sites are refused"))
	}))
	inner := guard.Handler(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !anyHost() && !plainHost(r.Host) {
			fail(w, http.StatusForbidden, fmt.Errorf("host %q is refused; call the API by IP address or as localhost", r.Host))
			return
		}
		inner.ServeHTTP(w, r)
	})
}

func plainHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	_, err := netip.ParseAddr(host)
	return err == nil || host == "localhost" || host == ""
}

// order runs a change and answers with the server as it is after it.
func order(w http.ResponseWriter, r *http.Request, c Control, do func(string) error) {
	name := r.PathValue("name")
	if err := do(name); err != nil {
		status := http.StatusInternalServerError
		if errors.Is(err, gateway.ErrNoServer) {
			status = http.StatusNotFound
		}
		fail(w, status, err)
		return
	}
	for _, s := range c.Servers() {
		if s.Name == name || s.Pool+"/"+s.Name == name {
			reply(w, http.StatusOK, s)
			return
		}
	}
}

// command does what changes the process. It goes on if the caller does not wait.
func command(w http.ResponseWriter, r *http.Request, do func(context.Context) error, done string) {
	if err := do(context.WithoutCancel(r.Context())); err != nil {
		fail(w, http.StatusConflict, err)
		return
	}
	reply(w, http.StatusOK, map[string]string{"status": done})
}

func fail(w http.ResponseWriter, status int, err error) {
	reply(w, status, map[string]string{"error": err.Error()})
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
