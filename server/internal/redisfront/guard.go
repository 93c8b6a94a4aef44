// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisfront

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// GuardConfig describes a Redis server that may be started, and whom to ask
// before. MasterName, Sentinels, Self and Command are required.
type GuardConfig struct {
	MasterName string
	Sentinels  []string
	Sentinel   Auth
	Self       string   // host:port, as the sentinels know this server
	Command    []string // redis-server and its arguments
	// HoldBack is how long to wait while the sentinels still call this server
	// the master. Default twice their down-after and a second: they have then
	// promoted another one if there is any.
	HoldBack time.Duration
	// AllowEmpty starts a master without data: once, when a group is new.
	AllowEmpty bool
	Logger     *slog.Logger // nil: discard
}

// ErrEmptyMaster: the server would come back as a master without data, and its
// replicas would throw away theirs.
var ErrEmptyMaster = errors.New("redisfront: guard: refusing to start a master that has lost its data: its replicas would be emptied too. Put its files back, promote a replica (SENTINEL FAILOVER), or, if the group is new, pass --allow-empty once")

const (
	guardPause  = 250 * time.Millisecond
	guardLease  = 2 * time.Second
	guardReport = 10 * time.Second
	loadLimit   = 10 * time.Minute
)

// Guard waits until it is known as what the server may start, and returns the
// command that starts it so: as a replica of the master that a majority of the
// sentinels agrees on, or as the master if they say so and it has data. Until a
// majority answers it waits.
func Guard(ctx context.Context, c GuardConfig) ([]string, error) {
	if err := c.valid(); err != nil {
		return nil, err
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	began, told := time.Now(), time.Time{}
	sentinels := make([]*sentinel, len(c.Sentinels))
	for i, addr := range c.Sentinels {
		sentinels[i] = &sentinel{asker: asker{addr: addr, auth: c.Sentinel}, group: c.MasterName}
		defer sentinels[i].close()
	}
	for {
		reports := make([]report, len(sentinels))
		for i, s := range sentinels {
			reports[i] = s.report(ctx)
		}
		v := judge(c.Sentinels, reports, len(c.Sentinels)/2+1, guardLease, time.Now())
		wait := c.holdBack(reports) - time.Since(began)
		why := v.why
		switch {
		case v.agreed && v.master != c.Self:
			host, port, err := net.SplitHostPort(v.master)
			if err != nil {
				return nil, fmt.Errorf("redisfront: guard: %w", err)
			}
			c.Logger.InfoContext(ctx, "redis guard starts a replica", "master", v.master, "epoch", v.epoch)
			return c.as(host, port), nil
		case v.agreed && wait <= 0:
			return c.master(ctx, v)
		case v.agreed:
			why = fmt.Sprintf("the sentinels call this server the master; waiting %v for them to promote another one", wait.Round(time.Second))
		}
		if time.Since(told) > guardReport {
			told = time.Now()
			c.Logger.WarnContext(ctx, "redis guard waits", "reason", why)
		}
		if !sleep(ctx, guardPause, nil) {
			return nil, fmt.Errorf("redisfront: guard: ended while it waited: %s: %w", why, ctx.Err())
		}
	}
}

func (c *GuardConfig) valid() error {
	var errs []error
	if c.MasterName == "" {
		errs = append(errs, errors.New("redisfront: guard: the name of the group is missing: --master-name"))
	}
	if len(c.Sentinels) == 0 {
		errs = append(errs, errors.New("redisfront: guard: no sentinels to ask: --sentinel host:port for each"))
	}
	if _, _, err := net.SplitHostPort(c.Self); err != nil {
		errs = append(errs, fmt.Errorf("redisfront: guard: --self %q is not host:port, as the sentinels know this server", c.Self))
	}
	if len(c.Command) == 0 {
		errs = append(errs, errors.New("redisfront: guard: no command: belay redis guard [flags] -- redis-server /etc/redis/redis.conf"))
	}
	return errors.Join(errs...)
}

func (c *GuardConfig) holdBack(reports []report) time.Duration {
	if c.HoldBack > 0 {
		return c.HoldBack
	}
	most := time.Duration(0)
	for _, r := range reports {
		most = max(most, r.downAfter)
	}
	if most == 0 {
		most = 30 * time.Second // Sentinel's own default
	}
	return 2*most + time.Second
}

// as is the command with what the server is to be, which wins over its file.
func (c *GuardConfig) as(host, port string) []string {
	return append(append([]string(nil), c.Command...), "--replicaof", host, port)
}

// master starts a master that has data.
func (c *GuardConfig) master(ctx context.Context, v verdict) ([]string, error) {
	keys, err := c.load(ctx, "--tls-port", "0")
	if errors.Is(err, errNoTLS) {
		keys, err = c.load(ctx)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("redisfront: guard: try whether the server has data: %w", err)
	case keys == 0 && !c.AllowEmpty:
		return nil, ErrEmptyMaster
	}
	c.Logger.InfoContext(ctx, "redis guard starts the master", "epoch", v.epoch, "keys", keys)
	return c.as("no", "one"), nil
}

var errNoTLS = errors.New("it was built without TLS")

// load starts the server where nobody reaches it, counts its keys, and ends it.
func (c *GuardConfig) load(ctx context.Context, more ...string) (keys int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, loadLimit)
	defer cancel()
	dir, err := os.MkdirTemp("", "belay-guard-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "redis.sock")
	args := append(c.as("no", "one"), "--port", "0", "--unixsocket", socket, "--unixsocketperm", "700",
		"--daemonize", "no", "--supervised", "no", "--requirepass", "", "--save", "")
	args = append(args, more...)
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // the operator's own command
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = guardReport
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() {
		if ended != nil {
			cancel()
			<-ended
		}
	}()
	for {
		keys, err = dbsize(ctx, socket)
		if err == nil {
			return keys, nil
		}
		select {
		case e := <-ended:
			ended = nil
			if len(more) > 0 && strings.Contains(said.String(), "tls-port") {
				return 0, errNoTLS
			}
			return 0, fmt.Errorf("%s ended at once (%w): %s", args[0], e, bytes.TrimSpace(said.Bytes()[max(0, said.Len()-500):]))
		case <-time.After(guardPause / 5):
		case <-ctx.Done():
			return 0, fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

// dbsize asks a server that just loads its data.
func dbsize(ctx context.Context, socket string) (int64, error) {
	conn, err := (&net.Dialer{Timeout: askTimeout}).DialContext(ctx, "unix", socket)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(askTimeout))
	if _, err := conn.Write([]byte("DBSIZE\r\n")); err != nil {
		return 0, err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return 0, err
	}
	text, ok := strings.CutPrefix(strings.TrimSpace(line), ":")
	if !ok {
		return 0, errors.New(line) // LOADING, most often
	}
	return strconv.ParseInt(text, 10, 64)
}
