// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"errors"
	"net/http"
	"os"

	"github.com/belay-ha/belay/server/internal/redisfront"
)

// Redis is what the API looks at and changes of the Redis fronts.
type Redis interface {
	Redis() []redisfront.Status
	// FailOverRedis makes a replica the master; os.ErrNotExist: no such front.
	FailOverRedis(ctx context.Context, name, to string) error
}

// redisRoutes adds what there is for Redis fronts.
func redisRoutes(mux *http.ServeMux, c Redis) {
	mux.HandleFunc("GET /v1/redis", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, c.Redis())
	})
	mux.HandleFunc("POST /v1/redis/{name}/failover", func(w http.ResponseWriter, r *http.Request) {
		to := r.URL.Query().Get("to")
		if to == "" {
			fail(w, http.StatusBadRequest, errors.New("name the replica that is to be master, as ?to=host:port"))
			return
		}
		switch err := c.FailOverRedis(context.WithoutCancel(r.Context()), r.PathValue("name"), to); {
		case errors.Is(err, os.ErrNotExist):
			fail(w, http.StatusNotFound, err)
		case err != nil:
			fail(w, http.StatusConflict, err)
		default:
			reply(w, http.StatusOK, c.Redis())
		}
	})
}

// RedisHandler is the API of a front that runs alone, on a loopback address.
func RedisHandler(c Redis, metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	redisRoutes(mux, c)
	return guarded(mux, func() bool { return false })
}
