// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/server/internal/admin"
	"github.com/belay-ha/belay/server/internal/gateway"
	"github.com/belay-ha/belay/server/internal/redisfront"
)

// control notes what it is told.
type control struct{ orders []string }

func (c *control) Servers() []gateway.ServerInfo {
	return []gateway.ServerInfo{{Pool: "shop", Name: "app1", State: "up"}}
}

func (c *control) Drain(name string, d time.Duration) error {
	return c.order(name, fmt.Sprint("drain ", d))
}
func (c *control) SetReady(name string) error    { return c.order(name, "ready") }
func (c *control) Maintenance(name string) error { return c.order(name, "maintenance") }

func (c *control) order(name, what string) error {
	if name != "app1" {
		return fmt.Errorf("%w: %q", gateway.ErrNoServer, name)
	}
	c.orders = append(c.orders, what)
	return nil
}

// Redis is one front.
func (c *control) Redis() []redisfront.Status {
	return []redisfront.Status{{Name: "sessions", Master: "10.0.0.1:6379"}}
}

func (c *control) FailOverRedis(_ context.Context, name, to string) error {
	switch {
	case name != "sessions":
		return fmt.Errorf("%w: no front %q", os.ErrNotExist, name)
	case to == "down:1":
		return redisfront.ErrNotReady
	}
	c.orders = append(c.orders, "failover "+to)
	return nil
}

// process is a program whose commands fail, or not.
type process struct {
	*control
	fail   bool
	remote bool
}

func (p process) Reload(context.Context) error  { return p.command("reload") }
func (p process) Upgrade(context.Context) error { return p.command("upgrade") }
func (p process) Effective() []byte             { return []byte(`"effective"`) }
func (p process) AllowRemote() bool             { return p.remote }

func (p process) command(what string) error {
	if p.fail {
		return errors.New("cannot " + what)
	}
	p.orders = append(p.orders, what)
	return nil
}

func TestAPI(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		method, url, origin string
		status              int
		body, order         string
	}{
		"healthz":                   {"GET", "http://127.0.0.1/healthz", "", 200, `"ok"`, ""},
		"list":                      {"GET", "http://127.0.0.1:8081/v1/servers", "", 200, `"name":"app1"`, ""},
		"drain":                     {"POST", "http://localhost:8081/v1/servers/app1/drain", "", 200, `"state"`, "drain 0s"},
		"drain_with_deadline":       {"POST", "http://[::1]:8081/v1/servers/app1/drain?deadline=30s", "", 200, `"state"`, "drain 30s"},
		"drain_with_a_bad_deadline": {"POST", "http://127.0.0.1/v1/servers/app1/drain?deadline=30", "", 400, `"error"`, ""},
		"ready":                     {"POST", "http://127.0.0.1/v1/servers/app1/ready", "", 200, `"state"`, "ready"},
		"maintenance":               {"POST", "http://127.0.0.1/v1/servers/app1/maintenance", "", 200, `"state"`, "maintenance"},
		"config":                    {"GET", "http://127.0.0.1/v1/config", "", 200, `effective`, ""},
		"reload":                    {"POST", "http://127.0.0.1/v1/reload", "", 200, `reloaded`, "reload"},
		"upgrade":                   {"POST", "http://127.0.0.1/v1/upgrade", "", 200, `upgraded`, "upgrade"},
		"failed_reload":             {"POST", "http://127.0.0.1/v1/reload", "", 409, `cannot reload`, ""},
		"failed_upgrade":            {"POST", "http://127.0.0.1/v1/upgrade", "", 409, `cannot upgrade`, ""},
		"redis":                     {"GET", "http://127.0.0.1/v1/redis", "", 200, `"master":"10.0.0.1:6379"`, ""},
		"redis_failover":            {"POST", "http://127.0.0.1/v1/redis/sessions/failover?to=10.0.0.2:6379", "", 200, `"sessions"`, "failover 10.0.0.2:6379"},
		"redis_failover_to_nobody":  {"POST", "http://127.0.0.1/v1/redis/sessions/failover", "", 400, `?to=host:port`, ""},
		"redis_not_ready":           {"POST", "http://127.0.0.1/v1/redis/sessions/failover?to=down:1", "", 409, `not ready`, ""},
		"redis_unknown":             {"POST", "http://127.0.0.1/v1/redis/other/failover?to=a:1", "", 404, `no front`, ""},
		"reload_needs_post":         {"GET", "http://127.0.0.1/v1/reload", "", 404, `"error"`, ""},
		"no_reload_by_a_web_site":   {"POST", "http://127.0.0.1/v1/reload", "https://evil.example", 403, `"error"`, ""},
		"unknown_server":            {"POST", "http://127.0.0.1/v1/servers/app9/ready", "", 404, `no such server`, ""},
		"get_changes_nothing":       {"GET", "http://127.0.0.1/v1/servers/app1/drain", "", 404, `"error"`, ""},
		"other_web_site_refused":    {"POST", "http://127.0.0.1/v1/servers/app1/drain", "https://evil.example", 403, `"error"`, ""},
		"rebound_host_name_refused": {"POST", "http://evil.example/v1/servers/app1/drain", "http://evil.example", 403, `"error"`, ""},
		"rebound_host_may_not_read": {"GET", "http://evil.example/v1/servers", "", 403, `"error"`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := &control{}
			r := httptest.NewRequest(tc.method, tc.url, nil)
			if tc.origin != "" {
				r.Header.Set("Origin", tc.origin)
			}
			w := httptest.NewRecorder()
			admin.Handler(c, http.NotFoundHandler(), process{c, strings.Contains(name, "failed"), false}, c).ServeHTTP(w, r)
			if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.body) || !json.Valid(w.Body.Bytes()) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if got := strings.Join(c.orders, ","); got != tc.order {
				t.Errorf("order %q, want %q", got, tc.order)
			}
		})
	}
}

func TestRemoteAPIMayBeCalledByName(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	admin.Handler(&control{}, http.NotFoundHandler(), process{remote: true}, &control{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://gateway.internal/v1/servers", nil))
	if w.Code != 200 {
		t.Fatal(w.Code)
	}
}

func TestMetricsAreServed(t *testing.T) {
	t.Parallel()
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "belay_x 1") })
	w := httptest.NewRecorder()
	admin.Handler(&control{}, metrics, process{}, &control{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://127.0.0.1/metrics", nil))
	if w.Code != 200 || w.Body.String() != "belay_x 1" {
		t.Fatal(w.Code, w.Body)
	}
}
