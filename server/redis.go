// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/belay-ha/belay/server/internal/admin"
	"github.com/belay-ha/belay/server/internal/config"
	"github.com/belay-ha/belay/server/internal/gateway/edge"
	"github.com/belay-ha/belay/server/internal/redisfront"
)

// RedisFront is one address in front of a Redis group.
type RedisFront = redisfront.Front

// RedisFrontConfig describes the group and its front.
type RedisFrontConfig = redisfront.Config

// RedisAuth is how to log in to Redis or to a sentinel.
type RedisAuth = redisfront.Auth

// RedisGuardConfig describes a Redis server that may be started, and whom to ask.
type RedisGuardConfig = redisfront.GuardConfig

// RunRedisFront runs one front alone until ctx ends, with an admin API of its own
// on a loopback address; empty: none.
func RunRedisFront(ctx context.Context, cfg RedisFrontConfig, adminAddress string, log *slog.Logger) error {
	f, err := redisfront.New(cfg, &redisfront.Options{Logger: log, Listen: edge.Listen})
	if err != nil {
		return err
	}
	if adminAddress == "" {
		return f.Run(ctx)
	}
	host, _, err := net.SplitHostPort(adminAddress)
	if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("server: the admin API asks for no password: %q must be a loopback address with a port, like 127.0.0.1:8081", adminAddress)
	}
	ln, err := edge.Listen(ctx, "--admin", adminAddress)
	if err != nil {
		return err
	}
	fronts := &redisFronts{fronts: map[string]*redisRun{cfg.Name: {front: f}}}
	registry := newRegistry()
	registry.MustRegister(fronts)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	api := edge.New(edge.Options{Handler: admin.RedisHandler(fronts, metricsHandler(registry)), Logger: log})
	wg.Go(func() {
		if err := api.Run(ctx, ln); err != nil {
			log.Error("admin API ended", "error", err)
		}
	})
	err = f.Run(ctx)
	cancel()
	return err
}

// RedisGuard waits until it is known as what a Redis server may start, and
// returns the command for it.
func RedisGuard(ctx context.Context, cfg RedisGuardConfig) ([]string, error) {
	return redisfront.Guard(ctx, cfg)
}

// redisFronts are the fronts of a configuration. It is safe for concurrent use.
type redisFronts struct {
	ctx  context.Context //nolint:containedctx // the fronts end with it
	log  *slog.Logger
	lend *front

	mu     sync.Mutex
	fronts map[string]*redisRun
}

// redisRun is a front that runs, or is about to.
type redisRun struct {
	cfg    config.Redis
	made   redisfront.Config
	files  [sha256.Size]byte          // sum of what was in those for TLS to nodes and sentinels
	tls    atomic.Pointer[tls.Config] // for the next client; nil: none
	front  *redisfront.Front
	cancel context.CancelFunc
	done   chan struct{}
}

// same reports whether next would differ in nothing but TLS for clients, which a
// front that runs can change.
func (run *redisRun) same(next *redisRun) bool {
	a, b := run.cfg, next.cfg
	if a.TLS != nil && b.TLS != nil {
		a.TLS, b.TLS = nil, nil
	}
	return run.files == next.files && reflect.DeepEqual(a, b)
}

var _ admin.Redis = (*redisFronts)(nil)

func newRedisFronts(r *running) *redisFronts {
	return &redisFronts{ctx: r.background, log: r.log, lend: r.front, fronts: map[string]*redisRun{}}
}

// set runs the fronts of a configuration: those that changed begin anew, the
// others keep their clients. One whose files cannot be read stays as it is.
func (r *redisFronts) set(cfgs []config.Redis) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	wanted := make(map[string]*redisRun, len(cfgs)) // nil: its files cannot be read
	for _, c := range cfgs {
		run, err := planned(c)
		wanted[c.Name], errs = run, append(errs, err)
	}
	for name, run := range r.fronts {
		switch next, ok := wanted[name]; {
		case ok && next == nil:
		case ok && run.same(next):
			run.tls.Store(next.tls.Load())
		default:
			r.end(name, run)
		}
	}
	for _, c := range cfgs {
		if run := wanted[c.Name]; run != nil && r.fronts[c.Name] == nil {
			errs = append(errs, r.begin(run))
		}
	}
	return errors.Join(errs...)
}

// begin runs what was planned.
func (r *redisFronts) begin(run *redisRun) error {
	c, fc := run.cfg, run.made
	// Opened here, so that a port in use is told to whoever starts or reloads.
	opened := map[string]net.Listener{}
	for key, address := range map[string]string{"listen": fc.Listen, "listen_replicas": fc.ListenReplicas} {
		if address == "" {
			continue
		}
		ln, err := r.lend.lend(r.ctx, "redis."+c.Name+"."+key, address)
		if err != nil {
			r.shut(c, opened)
			return err
		}
		opened[key] = ln
	}
	f, err := redisfront.New(fc, &redisfront.Options{Logger: r.log, Listen: func(_ context.Context, key, _ string) (net.Listener, error) {
		return opened[key], nil
	}})
	if err != nil {
		r.shut(c, opened)
		return err
	}
	run.front, run.done = f, make(chan struct{})
	var ctx context.Context
	ctx, run.cancel = context.WithCancel(r.ctx)
	r.fronts[c.Name] = run
	go func() {
		defer close(run.done)
		if err := f.Run(ctx); err != nil {
			r.log.Error("a redis front does not run", "error", err)
		}
	}()
	return nil
}

func (r *redisFronts) shut(c config.Redis, opened map[string]net.Listener) {
	shut(opened)
	r.lend.returned(c.Listen)
	r.lend.returned(c.ListenReplicas)
}

// end ends a front, its clients with it, and waits.
func (r *redisFronts) end(name string, run *redisRun) {
	run.cancel()
	<-run.done
	r.lend.returned(run.cfg.Listen)
	r.lend.returned(run.cfg.ListenReplicas)
	delete(r.fronts, name)
}

// stop ends all of them.
func (r *redisFronts) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, run := range r.fronts {
		r.end(name, run)
	}
}

// Redis returns how each front stands, by name.
func (r *redisFronts) Redis() []redisfront.Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]redisfront.Status, 0, len(r.fronts))
	for _, run := range r.fronts {
		list = append(list, run.front.Status())
	}
	slices.SortFunc(list, func(a, b redisfront.Status) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// FailOverRedis makes a replica the master, as planned.
func (r *redisFronts) FailOverRedis(ctx context.Context, name, to string) error {
	r.mu.Lock()
	run := r.fronts[name]
	r.mu.Unlock()
	if run == nil {
		return fmt.Errorf("%w: there is no redis front %q", os.ErrNotExist, name)
	}
	return run.front.FailOver(ctx, to)
}

// Describe and Collect make the fronts' metrics.
func (r *redisFronts) Describe(ch chan<- *prometheus.Desc) { redisfront.Describe(ch) }

// Collect implements prometheus.Collector.
func (r *redisFronts) Collect(ch chan<- prometheus.Metric) {
	for _, s := range r.Redis() {
		s.Collect(ch)
	}
}

// planned reads what the files of a front say.
func planned(c config.Redis) (*redisRun, error) {
	run := &redisRun{cfg: c}
	fc := redisfront.Config{
		Name: c.Name, MasterName: c.MasterName, Sentinels: c.Sentinels, Listen: c.Listen, ListenReplicas: c.ListenReplicas,
		MaxLag: c.MaxLag, Hold: c.Hold, Lease: c.Lease, KeepCopy: c.KeepCopy, Allow: c.Allow, AllowUnsafePair: c.AllowUnsafePair,
	}
	if now := secure(c.TLS); now != nil {
		run.tls.Store(now)
		fc.TLS = &tls.Config{
			MinVersion:         tls.VersionTLS12,
			GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return run.tls.Load(), nil },
		}
	}
	if b := c.FailBack; b != nil {
		fc.FailBack = redisfront.FailBack{To: b.To, After: b.After, Every: b.Every}
	}
	sum := sha256.New()
	var err1, err2 error
	fc.Redis, err1 = redisAuth(c.Nodes, sum)
	fc.Sentinel, err2 = redisAuth(c.SentinelLogin, sum)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	run.made, run.files = fc, [sha256.Size]byte(sum.Sum(nil))
	return run, nil
}

// redisAuth adds what it reads to sum.
func redisAuth(l *config.RedisLogin, sum hash.Hash) (redisfront.Auth, error) {
	if l == nil {
		return redisfront.Auth{}, nil
	}
	a := redisfront.Auth{User: l.User, Password: l.Password}
	if l.TLS == nil {
		return a, nil
	}
	var text [3][]byte
	for i, name := range []string{l.TLS.CAFile, l.TLS.CertFile, l.TLS.KeyFile} {
		if name == "" {
			continue
		}
		var err error
		if text[i], err = os.ReadFile(name); err != nil {
			return a, fmt.Errorf("server: redis: %w", err)
		}
		one := sha256.Sum256(text[i])
		sum.Write(one[:])
	}
	a.TLS = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: l.TLS.ServerName, InsecureSkipVerify: l.TLS.Insecure} //nolint:gosec // as the operator says
	if l.TLS.CAFile != "" {
		a.TLS.RootCAs = x509.NewCertPool()
		a.TLS.RootCAs.AppendCertsFromPEM(text[0])
	}
	if l.TLS.CertFile != "" {
		cert, err := tls.X509KeyPair(text[1], text[2])
		if err != nil {
			return a, fmt.Errorf("server: redis: %w", err)
		}
		a.TLS.Certificates = []tls.Certificate{cert}
	}
	return a, nil
}
