// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// Options of Open. The zero value of each field is its default.
type Options struct {
	// Prefix begins the names of the tables: lower-case letters, digits and '_', at
	// most 30, not a digit first. Default "belay_". Two stores of one database with
	// different prefixes share nothing.
	Prefix string
	// NoMigrate: Open makes no tables, and fails if they are not what this program
	// needs; Schema has the statements.
	NoMigrate bool
	// MaxRecord bounds one encoded record, in bytes; a larger one gets
	// session.ErrTooLarge. Default 4 MiB, at most 16 MiB − 1. What the server takes
	// at most (max_allowed_packet) bounds it as well.
	MaxRecord int
	// Timeout bounds a call whose context has no deadline. Default 2 s.
	Timeout time.Duration
	// SweepEvery is the pause between two sweeps of Run. Default 1 min.
	SweepEvery time.Duration
	// Logger gets what no caller can be told. Default: none.
	Logger *slog.Logger
}

const (
	defaultPrefix    = "belay_"
	defaultMaxRecord = 4 << 20
	limitMaxRecord   = 1<<24 - 1 // a MEDIUMBLOB
	defaultTimeout   = 2 * time.Second
	defaultSweep     = time.Minute
)

func (o *Options) withDefaults() (Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	if c.Prefix == "" {
		c.Prefix = defaultPrefix
	}
	if c.MaxRecord == 0 {
		c.MaxRecord = defaultMaxRecord
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.SweepEvery == 0 {
		c.SweepEvery = defaultSweep
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	var errs []error
	const letters = "abcdefghijklmnopqrstuvwxyz_"
	if len(c.Prefix) > 30 || strings.Trim(c.Prefix, letters+"0123456789") != "" || !strings.Contains(letters, c.Prefix[:1]) {
		errs = append(errs, fmt.Errorf("sqlstore: open: Prefix %q: want at most 30 of a-z, 0-9 and '_', and no digit first", c.Prefix))
	}
	if c.MaxRecord < 0 || c.MaxRecord > limitMaxRecord {
		errs = append(errs, fmt.Errorf("sqlstore: open: MaxRecord %d: want 1 to %d", c.MaxRecord, limitMaxRecord))
	}
	if c.Timeout < 0 {
		errs = append(errs, errors.New("sqlstore: open: Timeout is negative"))
	}
	if c.SweepEvery < 0 {
		errs = append(errs, errors.New("sqlstore: open: SweepEvery is negative: leave Run away to have no sweeps"))
	}
	return c, errors.Join(errs...)
}
