// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcache

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// Options of New. The zero value of each field is its default.
type Options struct {
	// Connections is the most connections to the node. They are opened when
	// they are first used. Default 2.
	Connections int
	// ConnectTimeout bounds opening one: the dial, TLS, the password and the
	// first answer. Default 1 s.
	ConnectTimeout time.Duration
	// AnswerTimeout is how long the server may be silent while it owes answers,
	// until the connection is given up and every call on it fails. A call whose
	// context has no deadline is bounded by it. Default 1 s.
	AnswerTimeout time.Duration
	// MaxPending is the most calls under way on one connection, those of
	// cancelled callers included; more wait for room. Default 1024.
	MaxPending int
	// MaxValue is the largest value, in bytes, written or accepted. Default:
	// what the server's own -I allows, at most 128 MiB.
	MaxValue int
	// TLS, if set, is used for every connection. An empty ServerName is taken
	// from the address.
	TLS *tls.Config
	// User and Password are for a server started with -Y. They are sent only to
	// a server that asks for them.
	User, Password string
	// Dial opens connections. Default: a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

const (
	defaultConnections    = 2
	defaultConnectTimeout = time.Second
	defaultAnswerTimeout  = time.Second
	defaultMaxPending     = 1024
	maxValueBound         = 128 << 20
	assumedItemSize       = 1 << 20 // if the server does not tell
	maxAuth               = 1024

	firstPause = 10 * time.Millisecond // after a connection could not be opened
	lastPause  = 500 * time.Millisecond
)

func (o Options) withDefaults() (Options, error) {
	var errs []error
	for _, n := range []struct {
		name string
		v    int
	}{{"Connections", o.Connections}, {"MaxPending", o.MaxPending}, {"MaxValue", o.MaxValue}} {
		if n.v < 0 {
			errs = append(errs, fmt.Errorf("%s is negative", n.name))
		}
	}
	if o.ConnectTimeout < 0 || o.AnswerTimeout < 0 {
		errs = append(errs, errors.New("a time-out is negative"))
	}
	if o.MaxValue > maxValueBound {
		errs = append(errs, fmt.Errorf("MaxValue %d is above %d", o.MaxValue, maxValueBound))
	}
	if o.User == "" && o.Password != "" {
		errs = append(errs, errors.New("there is a Password and no User"))
	}
	if strings.ContainsAny(o.User, " \r\n\x00") || strings.ContainsAny(o.Password, "\r\n\x00") {
		errs = append(errs, errors.New("a User may not hold spaces, and neither it nor the Password line breaks"))
	}
	if len(o.User)+len(o.Password) > maxAuth {
		errs = append(errs, fmt.Errorf("the User and Password are longer than %d bytes", maxAuth))
	}
	if o.Connections == 0 {
		o.Connections = defaultConnections
	}
	if o.ConnectTimeout == 0 {
		o.ConnectTimeout = defaultConnectTimeout
	}
	if o.AnswerTimeout == 0 {
		o.AnswerTimeout = defaultAnswerTimeout
	}
	if o.MaxPending == 0 {
		o.MaxPending = defaultMaxPending
	}
	if o.TLS != nil {
		o.TLS = o.TLS.Clone()
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	return o, errors.Join(errs...)
}
