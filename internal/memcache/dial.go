// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcache

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// serverInfo is what a server tells about itself when a connection is opened.
type serverInfo struct {
	version       string
	itemSize      int // bytes of the largest entry, with key and overhead
	itemSizeKnown bool
}

// dial opens and greets a connection within o.ConnectTimeout.
func dial(ctx context.Context, network, addr string, o *Options) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, o.ConnectTimeout)
	defer cancel()
	raw, err := o.Dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	// Ends reads and writes when ctx ends, under TLS too.
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	g := &greeter{ear: &ear{stream: raw, born: time.Now()}, options: o}
	if o.TLS != nil {
		g.ear.stream = tlsClient(raw, addr, o.TLS)
	}
	g.r = bufio.NewReaderSize(g.ear, readBuffer)
	err = g.greet(ctx)
	if !stop() || err != nil {
		_ = raw.Close()
		if e := ctx.Err(); e != nil && !isAnswer(err) {
			err = fmt.Errorf("no greeting within ConnectTimeout (%v)%s: %w", o.ConnectTimeout, tlsHint(o.TLS), e)
		}
		return nil, err
	}
	return start(o, raw, g), nil
}

// isAnswer: the server's own words say more than a time-out.
func isAnswer(err error) bool {
	return errors.Is(err, ErrAuth) || errors.Is(err, ErrBusy) || errors.Is(err, ErrProtocol)
}

func tlsHint(config *tls.Config) string {
	if config == nil {
		return "; a server with -Z is silent without TLS"
	}
	return ""
}

func tlsClient(raw net.Conn, addr string, config *tls.Config) *tls.Conn {
	if config.ServerName == "" && !config.InsecureSkipVerify {
		config = config.Clone()
		if host, _, err := net.SplitHostPort(addr); err == nil {
			config.ServerName = host
		}
	}
	return tls.Client(raw, config)
}

// greeter says hello on a new connection.
type greeter struct {
	ear     *ear
	r       *bufio.Reader
	options *Options
	about   serverInfo
}

func (g *greeter) greet(ctx context.Context) error {
	if t, ok := g.ear.stream.(*tls.Conn); ok {
		if err := t.HandshakeContext(ctx); err != nil {
			return fmt.Errorf("tls: %w", err)
		}
	}
	a, err := g.ask("version\r\n")
	if err == nil && a.code == codeClientError && strings.HasPrefix(a.text, "unauthenticated") {
		// Only a server that wants a password gets it: another one would store it.
		if err := g.authenticate(); err != nil {
			return err
		}
		a, err = g.ask("version\r\n")
	}
	switch {
	case err != nil:
		return err
	case a.code == codeError && strings.HasPrefix(a.text, "Too many open connections"):
		return fmt.Errorf("%w: the server is at its connection limit: raise memcached's -c", ErrBusy)
	case a.code != codeVersion:
		return fmt.Errorf("%w to version: %s", ErrProtocol, describe(a))
	}
	g.about.version = a.text
	if old(a.text) {
		return fmt.Errorf("%w: memcached %s has no meta commands: 1.6 or later is needed", ErrProtocol, short(a.text))
	}
	return g.settings()
}

func (g *greeter) authenticate() error {
	o := g.options
	if o.User == "" {
		return fmt.Errorf("%w: the server runs with -Y and wants a user: set User and Password", ErrAuth)
	}
	a, err := g.ask(fmt.Sprintf("set auth 0 -1 %d\r\n%s %s\r\n", len(o.User)+1+len(o.Password), o.User, o.Password))
	switch {
	case err != nil:
		return err
	case a.code == codeClientError:
		return fmt.Errorf("%w: the server refuses this User and Password: compare them with its -Y file", ErrAuth)
	case a.code != codeStored:
		return fmt.Errorf("%w to the password", ErrProtocol)
	}
	return nil
}

// settings learns the largest entry. A server may refuse to tell.
func (g *greeter) settings() error {
	g.about.itemSize = assumedItemSize
	a, err := g.ask("stats settings\r\n")
	for range maxStats {
		switch {
		case err != nil:
			return err
		case a.code == codeEnd, a.code == codeError, a.code == codeClientError, a.code == codeServerError:
			return nil
		case a.code != codeStat:
			return fmt.Errorf("%w to stats", ErrProtocol)
		}
		if name, value, _ := strings.Cut(a.text, " "); name == "item_size_max" {
			if n, err := strconv.Atoi(value); err == nil && n > 0 {
				g.about.itemSize, g.about.itemSizeKnown = n, true
			}
		}
		a, err = g.hear()
	}
	return fmt.Errorf("%w: stats without end", ErrProtocol)
}

func (g *greeter) ask(line string) (answer, error) {
	if _, err := g.ear.stream.Write([]byte(line)); err != nil {
		// What the server said before it closed tells more.
		if a, e := g.hear(); e == nil {
			return a, nil
		}
		return answer{}, fmt.Errorf("write: %w", err)
	}
	return g.hear()
}

func (g *greeter) hear() (answer, error) {
	line, err := readLine(g.r)
	if err != nil {
		return answer{}, err
	}
	return parseAnswer(line, 0)
}

// old reports versions before 1.6. What it cannot read it takes for new.
func old(version string) bool {
	major, rest, ok := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, err1 := strconv.Atoi(major)
	b, err2 := strconv.Atoi(minor)
	return ok && err1 == nil && err2 == nil && (a < 1 || a == 1 && b < 6)
}

// backoff says when a connection may be tried again.
type backoff struct {
	pause time.Duration
	until time.Time
	err   error
}
