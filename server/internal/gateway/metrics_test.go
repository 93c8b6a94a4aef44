// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"errors"
	"fmt"
	"net/http"
	"sort"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/belay-ha/belay/server/internal/gateway"
)

// gathered returns the value of each series, counts for histograms.
func gathered(w *world, r prometheus.Gatherer) map[string]float64 {
	w.Helper()
	families, err := r.Gather()
	if err != nil {
		w.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			sort.Strings(labels)
			name := strings.TrimPrefix(f.GetName(), "belay_gateway_") + "{" + strings.Join(labels, ",") + "}"
			all[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return all
}

func TestMetrics(t *testing.T) {
	r := prometheus.NewRegistry()
	runWith(t, 3, func(c *gateway.Config, apps []*app) {
		judged(&c.Pools[0])
		c.Pools[0].Servers[1].MaxInFlight = 1
		apps[2].handler = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }
	}, func(o *gateway.Options) { o.Registry = r }, func(w *world) {
		c1, c2 := w.stick("app1"), w.stick("app2")
		before := gathered(w, r)
		w.apps[0].ln.kill()
		w.get("/", "Cookie", c1) // refused: app2 or app3 answers
		for range 5 {
			w.get("/", "Cookie", "")
		}
		var wg sync.WaitGroup
		busy(w, 2, &wg, "/?work=1s", "Cookie", c2) // one of them waits
		during := gathered(w, r)
		wg.Wait()
		synctest.Wait()
		after := gathered(w, r)
		for name, want := range map[string]float64{
			"retries_total{pool=shop,reason=refused,server=app1}":              1,
			"ejections_total{pool=shop,reason=consecutive_errors,server=app3}": 1,
			"requests_total{pool=shop,server=app3,status=5xx}":                 3,
			"queue_duration_seconds{pool=shop}":                                1,
			"request_duration_seconds{pool=shop}":                              8,
			"server_state{pool=shop,server=app1,state=down}":                   1,
			"server_state{pool=shop,server=app1,state=up}":                     -1,
			"server_state{pool=shop,server=app3,state=ejected}":                1,
			"server_weight{pool=shop,server=app1}":                             -1,
		} {
			if got := after[name] - before[name]; got != want {
				w.Errorf("%s went up by %v, want %v", name, got, want)
			}
		}
		if during["queue_length{pool=shop}"] != 1 || during["server_in_flight{pool=shop,server=app2}"] != 1 || after["queue_length{pool=shop}"] != 0 {
			w.Error("queue and in flight:", during, after)
		}
		if after["server_checks_total{pool=shop,result=passed,server=app2}"] == 0 || after["server_live_sessions{pool=shop,server=app2}"] == 0 {
			w.Error("checks and live sessions:", after)
		}
		w.reload(without("app3"))
		for name := range gathered(w, r) {
			if strings.Contains(name, "server=app3") {
				w.Error("a server that is gone left", name)
			}
		}
		// What a client writes makes no series.
		n := len(gathered(w, r))
		for k := range 20 {
			w.do(fmt.Sprint("M", k), fmt.Sprint("/", k), "", "Host", fmt.Sprint("h", k), "X", fmt.Sprint(k))
		}
		if now := len(gathered(w, r)); now > n+2 {
			w.Errorf("%d series became %d", n, now)
		}
	})
}

func TestWhatComesToNothingIsCounted(t *testing.T) {
	r := prometheus.NewRegistry()
	dns := &names{ips: []string{"192.0.2.1"}}
	runWith(t, 1, func(c *gateway.Config, apps []*app) {
		apps[0].address = "192.0.2.1:80"
		c.Pools[0].Servers = []gateway.Server{{Name: "app", DNS: "app.test:80", Weight: 1}}
		c.Pools[0].DNS = gateway.DNS{Interval: 10 * time.Second, Timeout: time.Second, Drain: 30 * time.Second}
	}, func(o *gateway.Options) { o.Registry, o.Resolver = r, dns }, func(w *world) {
		w.apps[0].ln.kill()
		w.get("/").want(w, 503, "", 0) // finds out
		w.get("/").want(w, 503, "", 0)
		w.g.ConnectionFailed("handshake")
		synctest.Wait()
		m := gathered(w, r)
		for name, want := range map[string]float64{
			"refused_total{pool=shop,reason=no_server_left}":   1,
			"refused_total{pool=shop,reason=no_server}":        1,
			"requests_total{pool=shop,server=none,status=5xx}": 2,
			"failed_connections_total{reason=handshake}":       1,
		} {
			if m[name] != want {
				w.Errorf("%s is %v, want %v", name, m[name], want)
			}
		}
		up := func() (float64, bool) {
			v, ok := gathered(w, r)["dns_up{name=app.test:80,pool=shop}"]
			return v, ok
		}
		if got, _ := up(); got != 1 {
			w.Error("before anything went wrong:", got)
		}
		for want, err := range []error{errors.New("no such host"), nil} {
			dns.set(err, "192.0.2.1")
			time.Sleep(15 * time.Second)
			if got, ok := up(); !ok || got != float64(want) {
				w.Error("the name is up:", got, ok)
			}
		}
		if err := w.g.Reload(w.Context(), config("app1")); err != nil {
			w.Fatal(err)
		}
		if _, ok := up(); ok {
			w.Error("a name that nobody looks up has a series")
		}
	})
}

// A server that is checked in another way is another one to the gateway, but not
// to who reads the metrics.
func TestSeriesGoOnOverAReload(t *testing.T) {
	r := prometheus.NewRegistry()
	runWith(t, 1, nil, func(o *gateway.Options) { o.Registry = r }, func(w *world) {
		const name = "requests_total{pool=shop,server=app1,status=2xx}"
		for want := range 4 {
			if got := gathered(w, r)[name]; got != float64(want) {
				w.Errorf("%v answers are counted, not %d", got, want)
			}
			w.get("/").want(w, 200, "app1", 0)
			synctest.Wait()
			w.reload(func(cfg *gateway.Config) { cfg.Pools[0].Health.Timeout += time.Duration(want+1) * time.Millisecond })
		}
	})
}

func TestTunnelsAreCounted(t *testing.T) {
	r := prometheus.NewRegistry()
	runWith(t, 1, func(_ *gateway.Config, apps []*app) { apps[0].handler = upgraded }, func(o *gateway.Options) { o.Registry = r }, func(w *world) {
		c, br := w.raw("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		if line, _ := br.ReadString('\n'); !strings.Contains(line, "101") {
			w.Fatal(line)
		}
		synctest.Wait()
		if m := gathered(w, r); m["tunnels{}"] != 1 || m["server_in_flight{pool=shop,server=app1}"] != 1 {
			w.Error(m)
		}
		c.Close()
		synctest.Wait()
		if m := gathered(w, r); m["tunnels{}"] != 0 || m["server_in_flight{pool=shop,server=app1}"] != 0 {
			w.Error(m)
		}
	})
}

func upgraded(w http.ResponseWriter, r *http.Request) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + r.Header.Get("Upgrade") + "\r\n\r\n")
	rw.Flush()
	_, _ = rw.ReadByte()
}

func TestTraces(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	p := trace.NewTracerProvider(trace.WithSpanProcessor(spans))
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	runWith(t, 2, func(_ *gateway.Config, apps []*app) {
		for _, a := range apps {
			a.handler = echo
		}
	}, func(o *gateway.Options) { o.Tracer = p }, func(w *world) {
		w.apps[0].ln.kill()
		time.Sleep(time.Second)
		seen := field(w.get("/", "Traceparent", parent, "Tracestate", "a=b").body, "Traceparent")
		synctest.Wait()
		done := spans.Ended()
		if len(done) != 1 {
			w.Fatal(len(done), "spans")
		}
		s := done[0]
		if s.Parent().SpanID().String() != "b7ad6b7169203331" || s.SpanContext().TraceID().String() != "0af7651916cd43dd8448eb211c80319c" {
			w.Error("not a part of the client's trace:", s.Parent(), s.SpanContext())
		}
		if want := "00-0af7651916cd43dd8448eb211c80319c-" + s.SpanContext().SpanID().String() + "-01"; seen != want {
			w.Errorf("the server saw %q, want %q", seen, want)
		}
		attrs := fmt.Sprint(s.Attributes())
		for _, want := range []string{"app2", "200", "answered", "shop"} {
			if !strings.Contains(attrs, want) {
				w.Errorf("no %s in %s", want, attrs)
			}
		}
		w.get("/")
		synctest.Wait()
		if n := len(spans.Ended()); n != 2 {
			w.Error(n, "spans after two requests")
		}
	})
}

func TestWithoutTracesTheHeaderPasses(t *testing.T) {
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	run(t, 1, func(_ *gateway.Config, apps []*app) { apps[0].handler = echo }, func(w *world) {
		if got := field(w.get("/", "Traceparent", parent).body, "Traceparent"); got != parent {
			w.Error(got)
		}
	})
}
