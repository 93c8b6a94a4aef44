// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package natsstore

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/belay-ha/belay/session"
)

// sendPatience is how long a server may take nothing while the sockets are full. All
// calls wait meanwhile, whatever their deadlines are.
const sendPatience = 500 * time.Millisecond

// Dial connects for Open. The connection reconnects for ever, notices a silent
// server after 2 to 4 s, or after half a second in which it takes nothing more of what
// is sent, and while it is down refuses to send instead of
// keeping writes for later: a write must not happen after its caller was told
// that it had not. More options may follow; they win. Close it after the Store.
func Dial(ctx context.Context, url string, more ...nats.Option) (*nats.Conn, error) {
	opts := []nats.Option{
		nats.Name("belay"),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(50 * time.Millisecond),
		nats.ReconnectJitter(50*time.Millisecond, 50*time.Millisecond),
		nats.ReconnectBufSize(-1),
		nats.PingInterval(2 * time.Second),
		nats.MaxPingsOutstanding(1),
		nats.FlusherTimeout(sendPatience),
		nats.Timeout(2 * time.Second),
		nats.DrainTimeout(time.Second),
		nats.PermissionErrOnSubscribe(true),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // else it prints
	}
	if d, ok := ctx.Deadline(); ok {
		opts = append(opts, nats.Timeout(max(time.Millisecond, time.Until(d))))
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("natsstore: dial: %w", err)
	}
	nc, err := nats.Connect(url, append(opts, more...)...)
	if err != nil {
		return nil, fmt.Errorf("natsstore: dial %s: %w: %w", redact(url), session.ErrUnavailable, err)
	}
	return nc, nil
}

func redactAll(urls []string) string { return redact(strings.Join(urls, ",")) }

// redact leaves user and password out of a list of addresses.
func redact(urls string) string {
	var clean []string
	for part := range strings.SplitSeq(urls, ",") {
		scheme, rest, ok := strings.Cut(strings.TrimSpace(part), "://")
		if !ok {
			scheme, rest = "nats", scheme
		}
		clean = append(clean, scheme+"://"+rest[strings.LastIndexByte(rest, '@')+1:])
	}
	return strings.Join(clean, ",")
}
