// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisfront

import (
	"slices"
	"strings"
	"time"
)

// Status is what the operator sees.
type Status struct {
	Name      string           `json:"name"`
	Open      bool             `json:"open"` // writers are led to Master
	Master    string           `json:"master,omitempty"`
	Epoch     uint64           `json:"epoch"`
	RunID     string           `json:"run_id,omitempty"`
	Reason    string           `json:"reason,omitempty"` // not open: why
	Alarms    []string         `json:"alarms,omitempty"` // a person has to look
	Warnings  []string         `json:"warnings,omitempty"`
	Links     int              `json:"connections"`
	Readers   int              `json:"replica_connections"`
	Held      int              `json:"held_connections"` // wait for a master
	Cut       uint64           `json:"cut_connections"`  // so far
	Sentinels []SentinelStatus `json:"sentinels"`
	Nodes     []NodeStatus     `json:"nodes"`
	Changes   []Change         `json:"changes"` // the last ones, oldest first
	Decided   uint64           `json:"decided"` // how many changes there were in all
}

// SentinelStatus is what one sentinel said last.
type SentinelStatus struct {
	Address string    `json:"address"`
	At      time.Time `json:"at"`
	Master  string    `json:"master,omitempty"`
	Epoch   uint64    `json:"epoch"`
	Error   string    `json:"error,omitempty"`
}

// NodeStatus is what one Redis server said of itself last.
type NodeStatus struct {
	Address string  `json:"address"`
	Role    string  `json:"role,omitempty"`
	Lag     float64 `json:"lag_seconds"`
	Offset  int64   `json:"offset"`
	Keys    int64   `json:"keys"`
	Reads   bool    `json:"reads"` // gets readers
	Error   string  `json:"error,omitempty"`
}

// Change is one decision about where writers are led.
type Change struct {
	At     time.Time `json:"at"`
	Open   bool      `json:"open"`
	Master string    `json:"master,omitempty"`
	Epoch  uint64    `json:"epoch"`
	Cut    int       `json:"cut"`
	Reason string    `json:"reason"`
}

// Status returns how things stand now.
func (f *Front) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := Status{
		Name: f.cfg.Name, Open: f.state.open, Epoch: f.state.highest, Reason: f.state.why, Cut: f.cuts, Decided: f.decided, Changes: slices.Clone(f.changes),
		Master: f.state.target.Addr, RunID: f.state.target.RunID,
	}
	if f.state.alarm != "" {
		s.Alarms = append(s.Alarms, f.state.alarm)
	}
	if f.copy.warned {
		s.Alarms = append(s.Alarms, f.copy.master+" runs without a copy since "+f.copy.alone.UTC().Format(time.RFC3339))
	}
	if f.unsafe != "" {
		s.Warnings = append(s.Warnings, f.unsafe)
	}
	var readHeld int
	s.Links, s.Held = f.masters.count()
	s.Readers, readHeld = f.replicas.count()
	s.Held += readHeld
	for i, r := range f.reports {
		t := SentinelStatus{Address: f.cfg.Sentinels[i], At: r.at, Master: r.master, Epoch: r.epoch}
		if r.err != nil {
			t.Error = r.err.Error()
		}
		s.Sentinels = append(s.Sentinels, t)
	}
	for addr, n := range f.servers {
		t := NodeStatus{Address: addr, Reads: slices.Contains(f.readers, addr)}
		if n.last.err != nil {
			t.Error = n.last.err.Error()
		}
		if g := n.good; !g.at.IsZero() {
			t.Role, t.Lag, t.Offset, t.Keys = "replica", g.lag.Seconds(), g.offset, g.keys
			if g.master {
				t.Role, t.Lag = "master", 0
			}
		}
		s.Nodes = append(s.Nodes, t)
	}
	slices.SortFunc(s.Nodes, func(a, b NodeStatus) int { return strings.Compare(a.Address, b.Address) })
	return s
}
