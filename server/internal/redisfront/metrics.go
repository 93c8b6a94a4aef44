// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisfront

import "github.com/prometheus/client_golang/prometheus"

// Metrics of a front. Addresses of nodes are those that the sentinels know: a few.
var (
	descOpen    = desc("open", "1 while writers are led to a master")
	descEpoch   = desc("epoch", "the highest configuration epoch seen")
	descLinks   = desc("connections", "connections of clients", "to")
	descHeld    = desc("held_connections", "connections that wait for a master")
	descCut     = desc("cut_connections_total", "connections ended because the way changed")
	descAlarms  = desc("alarms", "how many things a person has to look at")
	descChanges = desc("changes_total", "decisions about where writers are led")
	descMaster  = desc("node_master", "1 for the node that writers are led to", "node")
	descLag     = desc("node_lag_seconds", "how long ago a replica heard of its master", "node")
	descUp      = desc("node_up", "1 if the node answers", "node")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("belay_redis_front_"+name, help, append([]string{"front"}, labels...), nil)
}

// Describe sends every metric that a Status can make.
func Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descOpen, descEpoch, descLinks, descHeld, descCut, descAlarms, descChanges, descMaster, descLag, descUp} {
		ch <- d
	}
}

// Collect sends the metrics.
func (s Status) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{s.Name}, labels...)...)
	}
	gauge(descOpen, one(s.Open))
	gauge(descEpoch, float64(s.Epoch))
	gauge(descLinks, float64(s.Links), "master")
	gauge(descLinks, float64(s.Readers), "replicas")
	gauge(descHeld, float64(s.Held))
	gauge(descAlarms, float64(len(s.Alarms)))
	ch <- prometheus.MustNewConstMetric(descCut, prometheus.CounterValue, float64(s.Cut), s.Name)
	ch <- prometheus.MustNewConstMetric(descChanges, prometheus.CounterValue, float64(s.Decided), s.Name)
	for _, n := range s.Nodes {
		gauge(descMaster, one(s.Open && n.Address == s.Master), n.Address)
		gauge(descLag, n.Lag, n.Address)
		gauge(descUp, one(n.Error == ""), n.Address)
	}
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
