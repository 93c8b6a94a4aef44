// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/belay-ha/belay/cmd/belay/internal/redisinit"
	"github.com/belay-ha/belay/server"
)

func redisCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "redis",
		Short: "One address in front of a Redis group, and what belongs to it",
		Long: `One address in front of a Redis group that Sentinel watches.

docs/redis.md sets it up on two machines and a third voter.`,
	}
	cmd.AddCommand(redisFrontCommand(), redisGuardCommand(), redisInitCommand())
	return cmd
}

// login is how to log in to servers, as flags say it.
type login struct {
	user, passwordFile, caFile string
	tls                        bool
}

func (l *login) flags(cmd *cobra.Command, prefix, whom string) {
	f := cmd.Flags()
	f.StringVar(&l.user, prefix+"user", "", "ACL `user` to log in to "+whom+" as; empty: the default user")
	f.StringVar(&l.passwordFile, prefix+"password-file", "", "`file` with the password for "+whom)
	f.BoolVar(&l.tls, prefix+"tls", false, "speak TLS to "+whom)
	f.StringVar(&l.caFile, prefix+"ca-file", "", "`file` with the certificates that sign those of "+whom+"; empty: the system's")
}

func (l *login) auth() (server.RedisAuth, error) {
	a := server.RedisAuth{User: l.user}
	if l.passwordFile != "" {
		b, err := os.ReadFile(l.passwordFile)
		if err != nil {
			return a, fmt.Errorf("read the password: %w", err)
		}
		a.Password = strings.TrimSpace(string(b))
	}
	if !l.tls {
		return a, nil
	}
	a.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	if l.caFile == "" {
		return a, nil
	}
	pem, err := os.ReadFile(l.caFile)
	if err != nil {
		return a, fmt.Errorf("read the certificates: %w", err)
	}
	a.TLS.RootCAs = x509.NewCertPool()
	if !a.TLS.RootCAs.AppendCertsFromPEM(pem) {
		return a, fmt.Errorf("%s has no certificate in PEM form", l.caFile)
	}
	return a, nil
}

func redisFrontCommand() *cobra.Command {
	var cfg server.RedisFrontConfig
	var redis, sentinel login
	var allow []string
	var certFile, keyFile, admin string
	cmd := &cobra.Command{
		Use:   "front --sentinel host:port --sentinel host:port --sentinel host:port",
		Short: "Lead clients to the master of a Redis group, and to no other node",
		Long: `Listen where clients expect their Redis, and lead them to the node that a
majority of the sentinels agrees on as master. Run one on each of two machines;
each alone is enough. A section "redis" of belay serve does the same.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err1, err2, err3 error
			cfg.Redis, err1 = redis.auth()
			cfg.Sentinel, err2 = sentinel.auth()
			for _, s := range allow {
				p, err := netip.ParsePrefix(s)
				if err != nil {
					err3 = errors.Join(err3, fmt.Errorf("--allow %q is not a network like 10.0.0.0/8", s))
				}
				cfg.Allow = append(cfg.Allow, p)
			}
			if certFile != "" || keyFile != "" {
				cert, err := tls.LoadX509KeyPair(certFile, keyFile)
				if err != nil {
					err3 = errors.Join(err3, fmt.Errorf("load the certificate for clients: %w", err))
				}
				cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}
			}
			if err := errors.Join(err1, err2, err3); err != nil {
				return err
			}
			return server.RunRedisFront(cmd.Context(), cfg, admin, slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), nil)))
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Name, "name", "redis", "`name` of the front in the log")
	f.StringVar(&cfg.MasterName, "master-name", "mymaster", "what the sentinels call the group")
	f.StringSliceVar(&cfg.Sentinels, "sentinel", nil, "`address` of a sentinel; give all of them")
	f.StringVar(&cfg.Listen, "listen", "127.0.0.1:6379", "`address` that leads to the master")
	f.StringVar(&admin, "admin", "", "loopback `address` of the admin API: GET /v1/redis, /metrics, POST /v1/redis/NAME/failover?to=host:port; empty: none")
	f.StringVar(&cfg.ListenReplicas, "listen-replicas", "", "`address` that leads to a replica; empty: none")
	f.DurationVar(&cfg.MaxLag, "max-lag", 0, "how far behind a replica may be, in whole seconds (default 2s)")
	f.DurationVar(&cfg.Hold, "hold", 0, "how long a client waits for a master (default and most 5s)")
	f.DurationVar(&cfg.Lease, "lease", 0, "how long the word of a majority is good for writes (default 3/4 of the sentinels' down-after)")
	f.BoolVar(&cfg.KeepCopy, "keep-copy", true, "set min-replicas-to-write to 1 while both nodes are well, to 0 when one is given up")
	f.StringVar(&cfg.FailBack.To, "fail-back-to", "", "`address` of the node that is to be master again once it is well; empty: none")
	f.DurationVar(&cfg.FailBack.After, "fail-back-after", 0, "how long it must be well before (default 1m)")
	f.DurationVar(&cfg.FailBack.Every, "fail-back-every", 0, "least time between two of them (default 10m)")
	f.BoolVar(&cfg.AllowUnsafePair, "allow-unsafe-pair", false, "accept fewer than three sentinels; docs/redis.md says what that costs")
	f.StringSliceVar(&allow, "allow", nil, "`network` whose clients may connect, like 10.0.0.0/8; may be repeated (default all)")
	f.StringVar(&certFile, "cert-file", "", "`file` with the certificate for clients; empty: no TLS")
	f.StringVar(&keyFile, "key-file", "", "`file` with its key")
	redis.flags(cmd, "redis-", "the nodes")
	sentinel.flags(cmd, "sentinel-", "the sentinels")
	return cmd
}

func redisGuardCommand() *cobra.Command {
	var cfg server.RedisGuardConfig
	var sentinel login
	cmd := &cobra.Command{
		Use:   "guard --sentinel host:port … --self host:port -- redis-server /etc/redis/redis.conf",
		Short: "Start a Redis server as what it may be: replica, or a master that has its data",
		Long: `Stand before the start of a Redis server, in its systemd unit for instance. A
master that comes back empty would empty its replicas. So this waits until a
majority of the sentinels can be asked, gives them time to promote another node,
and then becomes the server: as a replica of the master there is, or as the
master if it still is that and has data.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if cfg.Sentinel, err = sentinel.auth(); err != nil {
				return err
			}
			cfg.Command = args
			cfg.Logger = slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), nil))
			command, err := server.RedisGuard(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			path, err := exec.LookPath(command[0])
			if err != nil {
				return err
			}
			// The same process from now on: the supervisor sees redis-server itself.
			return fmt.Errorf("start %s: %w", path, syscall.Exec(path, command, os.Environ()))
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.MasterName, "master-name", "mymaster", "what the sentinels call the group")
	f.StringSliceVar(&cfg.Sentinels, "sentinel", nil, "`address` of a sentinel; give all of them")
	f.StringVar(&cfg.Self, "self", "", "`address` by which the sentinels know this server")
	f.DurationVar(&cfg.HoldBack, "hold-back", 0, "how long to wait while they still call this server the master (default twice their down-after and 1s)")
	f.BoolVar(&cfg.AllowEmpty, "allow-empty", false, "start a master without data; once, when the group is new")
	sentinel.flags(cmd, "sentinel-", "the sentinels")
	return cmd
}

func redisInitCommand() *cobra.Command {
	var g redisinit.Group
	var dir string
	cmd := &cobra.Command{
		Use:   "init --node host:port --node host:port --sentinel host:port … --dir DIR",
		Short: "Write working configurations for a pair of Redis servers and three sentinels",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			files, err := g.Write(dir)
			if err != nil {
				return err
			}
			for _, f := range files {
				fmt.Fprintln(cmd.OutOrStdout(), f)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", "belay-redis", "`directory` to write to; it must not exist or be empty")
	f.StringVar(&g.MasterName, "master-name", "mymaster", "what the sentinels shall call the group")
	f.StringSliceVar(&g.Nodes, "node", nil, "`address` of a Redis server, as the others reach it; two, the first begins as master")
	f.StringSliceVar(&g.Sentinels, "sentinel", nil, "`address` of a sentinel, as the others reach it; three, on three machines")
	f.DurationVar(&g.DownAfter, "down-after", 0, "silence after which a node counts as down (default 5s)")
	f.StringVar(&g.Listen, "listen", "127.0.0.1:6379", "`address` of the front for clients")
	return cmd
}
