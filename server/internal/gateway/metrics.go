// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/belay-ha/belay/server/internal/gateway/balance"
)

// metrics are what the traffic counts. What is a state, like the servers that
// are up, is looked up when somebody asks. The labels are names from the
// configuration and words of ours, never what a client sent; a server that is
// gone leaves no series behind.
type metrics struct {
	requests   *prometheus.CounterVec   // pool, server, status
	duration   *prometheus.HistogramVec // pool
	retries    *prometheus.CounterVec   // pool, server, reason
	refused    *prometheus.CounterVec   // pool, reason
	ejections  *prometheus.CounterVec   // pool, server, reason
	queued     *prometheus.HistogramVec // pool
	discovered *prometheus.GaugeVec     // pool, name
	failed     *prometheus.CounterVec   // reason
}

func newMetrics(r prometheus.Registerer, states prometheus.Collector) *metrics {
	if r == nil {
		return nil
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "belay_gateway_" + name, Help: help}, labels)
	}
	m := &metrics{
		requests:  counter("requests_total", "Answers to clients, by the server that gave them (none: the gateway itself) and the class of the status.", "pool", "server", "status"),
		retries:   counter("retries_total", "Attempts that were followed by another one, by the server that was left and the reason.", "pool", "server", "reason"),
		refused:   counter("refused_total", "Requests that the gateway answered itself, by the reason.", "pool", "reason"),
		ejections: counter("ejections_total", "Servers taken out because of what their users got.", "pool", "server", "reason"),
		failed:    counter("failed_connections_total", "Connections of clients that came to nothing before a request was known, by the reason.", "reason"),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "belay_gateway_request_duration_seconds", Help: "Time from the request to the end of its answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"pool"}),
		queued: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "belay_gateway_queue_duration_seconds", Help: "Time that requests waited for a server with room.",
			Buckets: []float64{.001, .005, .01, .05, .1, .5, 1, 5, 10, 30},
		}, []string{"pool"}),
		discovered: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "belay_gateway_dns_up", Help: "1 if the last look-up of the name went well.",
		}, []string{"pool", "name"}),
	}
	r.MustRegister(m.requests, m.duration, m.retries, m.refused, m.ejections, m.queued, m.discovered, m.failed, states)
	return m
}

// answers counts the answers of one server. Its series are looked up once each:
// by labels that costs more than everything else here.
type answers struct {
	classes [6]atomic.Pointer[prometheus.Counter] // by the first digit of the status
}

func (a *answers) of(status int, look func() prometheus.Counter) prometheus.Counter {
	class := status / 100
	if class < 1 || class >= len(a.classes) {
		return look()
	}
	if c := a.classes[class].Load(); c != nil {
		return *c
	}
	c := look()
	a.classes[class].Store(&c)
	return c
}

// request counts one answer.
func (m *metrics) request(x *exchange) {
	if m == nil || x.p == nil {
		return
	}
	pool := x.p.cfg.Name
	if x.answered {
		x.b.answers.of(x.status, func() prometheus.Counter {
			return m.requests.WithLabelValues(pool, x.b.name, statusClass(x.status))
		}).Inc()
	} else {
		m.refused.WithLabelValues(pool, x.outcome).Inc()
		m.requests.WithLabelValues(pool, "none", statusClass(x.status)).Inc()
	}
	m.duration.WithLabelValues(pool).Observe(time.Since(x.start).Seconds())
}

func statusClass(status int) string {
	switch {
	case status == statusGone:
		return "client_gone"
	case status < 100 || status > 599:
		return "none"
	}
	return strconv.Itoa(status/100) + "xx"
}

func (m *metrics) retry(pool, server, reason string) {
	if m != nil {
		m.retries.WithLabelValues(pool, server, reason).Inc()
	}
}

func (m *metrics) eject(pool, server, reason string) {
	if m != nil {
		m.ejections.WithLabelValues(pool, server, reason).Inc()
	}
}

func (m *metrics) wait(pool string, d time.Duration) {
	if m != nil {
		m.queued.WithLabelValues(pool).Observe(d.Seconds())
	}
}

// ConnectionFailed counts a connection that came to nothing before a request was
// known. reason is one of a few words.
func (g *Gateway) ConnectionFailed(reason string) {
	if g.metrics != nil {
		g.metrics.failed.WithLabelValues(reason).Inc()
	}
}

func (m *metrics) dns(pool, name string, ok bool) {
	if m == nil {
		return
	}
	v := 0.0
	if ok {
		v = 1
	}
	m.discovered.WithLabelValues(pool, name).Set(v)
}

// forgetName drops the series of a name that nobody looks up any more.
func (m *metrics) forgetName(pool, name string) {
	if m != nil {
		m.discovered.DeleteLabelValues(pool, name)
	}
}

// forget drops the series of a server that is gone. What it still answers counts
// nowhere.
func (m *metrics) forget(pool, server string) {
	if m == nil {
		return
	}
	l := prometheus.Labels{"pool": pool, "server": server}
	m.requests.DeletePartialMatch(l)
	m.retries.DeletePartialMatch(l)
	m.ejections.DeletePartialMatch(l)
}

// states shows what is known of the servers, when somebody asks.
type states struct{ g *Gateway }

var (
	stateDesc    = desc("server_state", "1 for the state that the server is in.", "pool", "server", "state")
	inFlightDesc = desc("server_in_flight", "Requests and tunnels that the server works on.", "pool", "server")
	weightDesc   = desc("server_weight", "Share of new users at this moment.", "pool", "server")
	liveDesc     = desc("server_live_sessions", "Different users that came to the server of late.", "pool", "server")
	checksDesc   = desc("server_checks_total", "Health checks, by result.", "pool", "server", "result")
	queueDesc    = desc("queue_length", "Requests that wait for a server with room.", "pool")
	tunnelsDesc  = desc("tunnels", "Connections that were upgraded to another protocol.")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("belay_gateway_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector.
func (s states) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{stateDesc, inFlightDesc, weightDesc, liveDesc, checksDesc, queueDesc, tunnelsDesc} {
		c <- d
	}
}

// Collect implements prometheus.Collector.
func (s states) Collect(c chan<- prometheus.Metric) {
	show := func(d *prometheus.Desc, v float64, labels ...string) {
		kind := prometheus.GaugeValue
		if d == checksDesc {
			kind = prometheus.CounterValue
		}
		c <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	for _, p := range s.g.now.Load().pools {
		show(queueDesc, float64(p.balance.Queue()), p.cfg.Name)
		for i := range p.backends {
			in := p.info(i)
			for _, state := range balance.States {
				v := 0.0
				if state.String() == in.State {
					v = 1
				}
				show(stateDesc, v, in.Pool, in.Name, state.String())
			}
			show(inFlightDesc, float64(in.InFlight), in.Pool, in.Name)
			show(weightDesc, in.Weight, in.Pool, in.Name)
			show(checksDesc, float64(in.Checks.Passed), in.Pool, in.Name, "passed")
			show(checksDesc, float64(in.Checks.Failed), in.Pool, in.Name, "failed")
			if in.LiveSessions != nil {
				show(liveDesc, float64(*in.LiveSessions), in.Pool, in.Name)
			}
		}
	}
	show(tunnelsDesc, float64(s.g.tunnels.count()))
}
