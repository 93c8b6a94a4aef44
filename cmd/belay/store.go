// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/belay-ha/belay/session/natsstore/embedded"
)

// storeFlags are what the command line says.
type storeFlags struct {
	dir, listen            string
	name, clusterListen    string
	peers                  []string
	wait                   time.Duration
	passwordFile           string
	tlsCert, tlsKey, tlsCA string
}

func storeCommand() *cobra.Command {
	var f storeFlags
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Run a session store: JetStream on disk, in one process or as one of several peers",
		Long: `Store runs a NATS server with JetStream, which keeps sessions on disk: one node,
no other program needed. What it has acknowledged survives kill -9. The nodes of
an application reach it with natsstore.

With --peers it is one of three or more that keep the same sessions: one of three
may be lost, at the price of 4 to 9 s in which a part of the sessions can be read
and not written. Each peer is started with a --name and a --dir of its own and
with the same list of --peers, for example on the first of three machines:

  belay store --name a --listen 10.0.0.1:4222 --cluster-listen 10.0.0.1:6222 \
    --peers 10.0.0.1:6222,10.0.0.2:6222,10.0.0.3:6222 \
    --password-file /etc/belay/password --tls-cert a.crt --tls-key a.key --tls-ca ca.crt

Without --password-file and --tls-cert whoever can connect can read and write
every session. So it listens on loopback unless told otherwise.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runStore(cmd.Context(), &f, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.AddCommand(placementCommand())
	flags := cmd.Flags()
	flags.StringVar(&f.dir, "dir", "belay-store", "directory for the data; made if it is not there")
	flags.StringVar(&f.listen, "listen", "127.0.0.1:4222", "address to listen on")
	flags.StringVar(&f.name, "name", "", "name of this peer: no other has it, and it stays the same")
	flags.StringVar(&f.clusterListen, "cluster-listen", "", "address at which the other peers reach this one")
	flags.StringSliceVar(&f.peers, "peers", nil, "addresses of all peers, this one included; three at least")
	flags.DurationVar(&f.wait, "wait", time.Minute, "how long to wait for a majority of the peers at the start")
	flags.StringVar(&f.passwordFile, "password-file", "", "file with the password that clients (as user belay) and peers must give")
	flags.StringVar(&f.tlsCert, "tls-cert", "", "PEM file with this server's certificate: TLS for clients and between peers")
	flags.StringVar(&f.tlsKey, "tls-key", "", "PEM file with its key")
	flags.StringVar(&f.tlsCA, "tls-ca", "", "PEM file with the authority of peers' certificates, and of clients', which then need one")
	return cmd
}

func runStore(ctx context.Context, f *storeFlags, out, log io.Writer) error {
	opts, err := f.options()
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	opts.Logger = slog.New(slog.NewTextHandler(log, nil))
	srv, err := embedded.New(f.dir, opts)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-srv.Ready():
			_, _ = fmt.Fprintf(out, "store: ready at %s, data in %s\n", srv.ClientURL(), f.dir)
		case <-ctx.Done():
		}
	})
	err = srv.Run(ctx)
	cancel()
	wg.Wait()
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("store: %w; see --listen and --cluster-listen", err)
	}
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

// options turns flags into options, and tells every mistake at once.
func (f *storeFlags) options() (*embedded.Options, error) {
	var errs []error
	o := &embedded.Options{}
	host, text, err := net.SplitHostPort(f.listen)
	if err == nil {
		o.Host = host
		o.Port, err = strconv.Atoi(text)
	}
	if err != nil || o.Port < 0 || o.Port > 65535 {
		errs = append(errs, fmt.Errorf("--listen %q: write HOST:PORT, for example 127.0.0.1:4222", f.listen))
	}
	if f.passwordFile != "" {
		secret, err := os.ReadFile(f.passwordFile)
		if o.Password = strings.TrimSpace(string(secret)); err == nil && o.Password == "" {
			err = fmt.Errorf("%s is empty", f.passwordFile)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("--password-file: %w", err))
		}
	}
	if o.TLS, err = f.tls(); err != nil {
		errs = append(errs, err)
	}
	if f.name != "" || f.clusterListen != "" || len(f.peers) > 0 {
		if f.name == "" || f.clusterListen == "" || len(f.peers) == 0 {
			errs = append(errs, errors.New("--name, --cluster-listen and --peers go together"))
		}
		if o.TLS != nil && f.tlsCA == "" {
			errs = append(errs, errors.New("--tls-ca is missing: peers check each other's certificates with it"))
		}
		o.Cluster = &embedded.Cluster{
			Name: f.name, Listen: f.clusterListen, Peers: f.peers, Password: o.Password, TLS: o.TLS, Wait: f.wait,
		}
	}
	return o, errors.Join(errs...)
}

func (f *storeFlags) tls() (*tls.Config, error) {
	if f.tlsCert == "" && f.tlsKey == "" && f.tlsCA == "" {
		return nil, nil
	}
	if f.tlsCert == "" || f.tlsKey == "" {
		return nil, errors.New("--tls-cert and --tls-key go together, and --tls-ca needs both")
	}
	cert, err := tls.LoadX509KeyPair(f.tlsCert, f.tlsKey)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	c := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	if f.tlsCA == "" {
		return c, nil
	}
	pem, err := os.ReadFile(f.tlsCA)
	if err != nil {
		return nil, fmt.Errorf("--tls-ca: %w", err)
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--tls-ca: no certificate in %s", f.tlsCA)
	}
	c.ClientCAs, c.ClientAuth = c.RootCAs, tls.RequireAndVerifyClientCert
	return c, nil
}
