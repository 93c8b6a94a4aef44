// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway/balance"
	"github.com/belay-ha/belay/server/internal/gateway/health"
)

// observe tells the judge of outliers how a request went on server i.
func (p *pool) observe(i int, failed bool, took time.Duration) {
	if p.outliers == nil {
		return
	}
	now := time.Now()
	if e, out := p.outliers.Observe(p.backends[i].name, failed, took, len(p.backends), now); out {
		p.eject(e, now)
	}
}

// judge compares the servers in intervals until ctx ends.
func (p *pool) judge(ctx context.Context) {
	t := time.NewTicker(p.cfg.Eject.Interval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			for _, e := range p.outliers.Compare(len(p.backends), now) {
				p.eject(e, now)
			}
		}
	}
}

func (p *pool) eject(e health.Ejection, now time.Time) {
	for i, b := range p.backends {
		if b.name != e.Server {
			continue
		}
		p.balance.Eject(i, balance.Ejection{Until: e.Until, Soft: e.Soft}, now)
		b.g.metrics.eject(p.cfg.Name, e.Server, e.Why)
		b.g.log.Warn("server is ejected", "pool", p.cfg.Name, "server", e.Server, "cause", e.Why, "until", e.Until)
		return
	}
}
