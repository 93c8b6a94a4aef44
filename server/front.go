// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/belay-ha/belay/server/internal/config"
	"github.com/belay-ha/belay/server/internal/gateway/edge"
)

// front is every socket that somebody is served on, of clients and of operators.
type front struct {
	log    *slog.Logger
	listen func(ctx context.Context, key, address string) (net.Listener, error)
	users  sync.WaitGroup // of servers for users
	others sync.WaitGroup // of those for operators
	failed chan error     // buffered: the first failure counts

	mu    sync.Mutex
	given map[string]net.Listener // by address: from systemd, or from the process before; taken at most once
	doors map[string]*door        // by address
	lent  map[string]net.Listener // by address: those that others serve on
}

// lend opens a socket, or takes the one that was given, for somebody who serves
// on it by himself. The next process inherits it with the others.
func (f *front) lend(ctx context.Context, key, address string) (net.Listener, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ln := f.given[address]
	delete(f.given, address)
	if ln == nil {
		var err error
		if ln, err = f.listen(ctx, key, address); err != nil {
			return nil, err
		}
	}
	f.lent[address] = ln
	return ln, nil
}

// returned forgets a socket that was lent.
func (f *front) returned(address string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.lent, address)
}

// door is an open socket and who serves on it.
type door struct {
	ln   net.Listener
	srv  *edge.Server
	spec string // what takes another server to change
}

// want is a socket that a configuration asks for.
type want struct {
	key     string // of the setting with the address
	address string
	what    string // for the log
	wg      *sync.WaitGroup
	ctx     context.Context //nolint:containedctx // the server on it ends with it
	options edge.Options
}

// spec writes down the options that a running server cannot change.
func (w *want) spec() string {
	o := w.options
	return fmt.Sprint(o.TLS != nil, o.H2C, o.Proxies, o.MaxConns, o.MaxHeader, o.HeaderTimeout, o.IdleTimeout, o.Grace, o.HandOver, o.Lame)
}

// open opens the sockets that are not open yet, and doubles those that get
// another server. Nothing is served on them before serve; if one cannot be
// opened, none is.
func (f *front) open(ctx context.Context, wants []want) (map[string]net.Listener, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	opened := make(map[string]net.Listener)
	for _, w := range wants {
		ln, err := f.given[w.address], error(nil)
		delete(f.given, w.address)
		switch d := f.doors[w.address]; {
		case d != nil && d.spec == w.spec():
			continue
		case d != nil:
			ln, err = edge.Dup(d.ln)
		case ln == nil:
			ln, err = f.listen(ctx, w.key, w.address)
		}
		if err != nil {
			shut(opened)
			return nil, err
		}
		opened[w.address] = ln
	}
	return opened, nil
}

// shut closes sockets that were opened for nothing.
func shut(opened map[string]net.Listener) {
	for _, ln := range opened {
		ln.Close()
	}
}

// serve serves on what is wanted, and no longer on anything else. A socket whose
// options changed stays, and gets another server.
func (f *front) serve(wants []want, opened map[string]net.Listener) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range wants {
		d := f.doors[w.address]
		if ln := opened[w.address]; ln != nil {
			f.begin(w, ln)
			if d != nil {
				d.srv.HandOver()
			}
		} else {
			d.srv.SetTLS(w.options.TLS)
		}
	}
	for address, d := range f.doors {
		if !slices.ContainsFunc(wants, func(w want) bool { return w.address == address }) {
			d.srv.HandOver()
			delete(f.doors, address)
			f.log.Info("no longer listens", "address", address)
		}
	}
}

func (f *front) begin(w want, ln net.Listener) {
	d := &door{ln: ln, srv: edge.New(w.options), spec: w.spec()}
	f.doors[w.address] = d
	w.wg.Go(func() {
		if err := d.srv.Run(w.ctx, ln); err != nil {
			select {
			case f.failed <- err:
			default:
			}
		}
	})
	f.log.Info(w.what+" listens", "address", ln.Addr().String())
}

// handOver ends service everywhere, because another process accepts now.
func (f *front) handOver() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range f.doors {
		d.srv.HandOver()
	}
}

// files returns a copy of the descriptor of each socket, by address.
func (f *front) files() (names []string, files []*os.File, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	sockets := maps.Clone(f.lent)
	for address, d := range f.doors {
		sockets[address] = d.ln
	}
	for address, ln := range sockets {
		file, err := edge.File(ln)
		if err != nil {
			return names, files, err
		}
		names, files = append(names, address), append(files, file)
	}
	return names, files, nil
}

// wants lists the sockets of a configuration.
func (r *running) wants(cfg *Config) []want {
	list := make([]want, 0, len(cfg.Listeners)+1)
	for i, l := range cfg.Listeners {
		list = append(list, want{
			key: fmt.Sprintf("listeners[%d].address", i), address: l.Address, what: "gateway", wg: &r.front.users, ctx: r.ctx,
			options: edge.Options{
				Handler: r.gateway, Logger: r.log, Failed: r.gateway.ConnectionFailed,
				Grace: cfg.Grace, HandOver: cfg.TunnelGrace, Lame: cfg.LameDuck,
				TLS: secure(l.TLS), H2C: l.H2C, Proxies: prefixes(l.ProxyProtocol), MaxConns: l.MaxConnections,
				MaxHeader: int(l.MaxHeader), HeaderTimeout: l.HeaderTimeout, IdleTimeout: l.IdleTimeout,
			},
		})
	}
	if a := cfg.Admin; a != nil {
		list = append(list, want{
			key: "admin.address", address: a.Address, what: "admin API", wg: &r.front.others, ctx: r.background,
			options: edge.Options{Handler: r.admin, Logger: r.log, Grace: time.Second, HandOver: time.Minute},
		})
	}
	return list
}

func prefixes(list []netip.Prefix) []netip.Prefix {
	if len(list) == 0 {
		return nil
	}
	return list
}

func secure(t *config.TLS) *tls.Config {
	if t == nil {
		return nil
	}
	certs := make([]tls.Certificate, len(t.Certificates))
	for i, c := range t.Certificates {
		certs[i] = c.Pair
	}
	version := uint16(tls.VersionTLS12)
	if t.MinVersion == "1.3" {
		version = tls.VersionTLS13
	}
	clients := map[string]edge.ClientCerts{"optional": edge.ClientCertsOptional, "require": edge.ClientCertsRequired}[t.ClientCerts]
	return edge.Secure(certs, version, clients, t.ClientCAs)
}
