// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisfront

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// asker keeps one connection to a server for questions, and makes it anew when
// it breaks. One goroutine uses it.
type asker struct {
	addr   string
	auth   Auth
	mu     sync.Mutex // client is also used to listen
	client rueidis.Client
}

func (a *asker) open() (rueidis.Client, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.client != nil {
		return a.client, nil
	}
	o := rueidis.ClientOption{
		InitAddress: []string{a.addr}, Username: a.auth.User, Password: a.auth.Password, TLSConfig: a.auth.TLS,
		ClientName: "belay-front", ForceSingleClient: true, DisableCache: true, DisableRetry: true, AlwaysRESP2: true,
		ClientSetInfo:    rueidis.DisableClientSetInfo,
		ConnWriteTimeout: askTimeout, PipelineMultiplex: -1, RingScaleEachConn: 5,
		ReadBufferEachConn: 8 << 10, WriteBufferEachConn: 4 << 10,
	}
	o.Dialer.Timeout = askTimeout
	c, err := rueidis.NewClient(o)
	if err != nil {
		if c != nil {
			c.Close()
		}
		return nil, err
	}
	a.client = c
	return c, nil
}

func (a *asker) close() {
	a.mu.Lock()
	c := a.client
	a.client = nil
	a.mu.Unlock()
	if c != nil {
		c.Close()
	}
}

// ask sends commands and returns their answers. Any error but an answer of the
// server's own ends the connection.
func (a *asker) ask(ctx context.Context, commands ...[]string) ([]rueidis.RedisMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	c, err := a.open()
	if err != nil {
		return nil, explain(err)
	}
	built := make([]rueidis.Completed, len(commands))
	for i, words := range commands {
		built[i] = c.B().Arbitrary(words...).Build()
	}
	answers := make([]rueidis.RedisMessage, len(commands))
	for i, r := range c.DoMulti(ctx, built...) {
		m, err := r.ToMessage()
		if _, said := rueidis.IsRedisErr(err); err != nil && !said {
			a.close()
			return nil, explain(err)
		}
		if err != nil {
			return nil, explain(err)
		}
		answers[i] = m
	}
	return answers, nil
}

// explain says what to look at, for the errors that people meet when they set
// a group up.
func explain(err error) error {
	switch text := err.Error(); {
	case strings.Contains(text, "WRONGPASS"), strings.Contains(text, "invalid password"):
		return fmt.Errorf("it refuses the user or the password: %w", err)
	case strings.Contains(text, "NOAUTH"):
		return fmt.Errorf("it wants a password: %w", err)
	case strings.Contains(text, "No such master"):
		return fmt.Errorf("it knows no group of that name, check master_name: %w", err)
	}
	return err
}

// sleep waits for d, a nudge or the end.
func sleep(ctx context.Context, d time.Duration, nudge <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
	case <-nudge:
	}
	return ctx.Err() == nil
}
