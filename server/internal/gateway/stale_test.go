// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway"
)

// A connection that broke under a request, to a machine that then cannot be
// reached, proves nothing: the request moves only at its fence.
func TestStaleConnectionToALostMachineWaitsForTheFence(t *testing.T) {
	run(t, 2, func(c *gateway.Config, _ []*app) { c.Pools[0].ConnectTimeout = 100 * time.Millisecond }, func(w *world) {
		w.apps[0].handler = func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/hang" {
				w.net.mu.Lock()
				w.net.lost["app1:80"] = true
				w.net.mu.Unlock()
				panic(http.ErrAbortHandler)
			}
			io.WriteString(rw, "app1")
		}
		c := w.stick("app1")
		w.get("/hang", "Cookie", c).want(w, 200, "app2", bound)
	})
}
