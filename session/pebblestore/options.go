// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package pebblestore

import (
	"errors"
	"log/slog"
	"time"
)

// Options of Open. The zero value of each field is its default.
type Options struct {
	// CacheBytes bounds the memory for what was read from disk lately. Default
	// 8 MiB.
	CacheBytes int64
	// BufferBytes bounds the memory for what was written lately; there may be
	// two such buffers at a time. Default 4 MiB, at least 64 KiB.
	BufferBytes int64
	// MaxRecord bounds one encoded record; a larger one gets
	// session.ErrTooLarge. Default 4 MiB.
	MaxRecord int
	// Reserve is how many bytes of the disk stay free: below that, Create and
	// Update fail with an error that says so, while Delete and Touch work.
	// Default 128 MiB; negative: write until the disk is full, which makes the
	// engine fail for good.
	Reserve int64
	// SweepEvery is the pause between two sweeps of Run. Default 1 min.
	SweepEvery time.Duration
	// Logger gets the engine's errors that no caller can be told. Default: none.
	Logger *slog.Logger
}

const (
	defaultCache     = 8 << 20
	defaultBuffer    = 4 << 20
	minBuffer        = 64 << 10
	defaultMaxRecord = 4 << 20
	defaultReserve   = 128 << 20
	defaultSweep     = time.Minute
)

func (o *Options) withDefaults() (Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = defaultCache
	}
	if c.BufferBytes == 0 {
		c.BufferBytes = defaultBuffer
	}
	if c.MaxRecord == 0 {
		c.MaxRecord = defaultMaxRecord
	}
	if c.Reserve == 0 {
		c.Reserve = defaultReserve
	}
	if c.SweepEvery == 0 {
		c.SweepEvery = defaultSweep
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	var errs []error
	if c.CacheBytes < 0 {
		errs = append(errs, errors.New("pebblestore: open: CacheBytes is negative"))
	}
	if c.BufferBytes < minBuffer {
		errs = append(errs, errors.New("pebblestore: open: BufferBytes is under 64 KiB"))
	}
	if c.MaxRecord < 0 {
		errs = append(errs, errors.New("pebblestore: open: MaxRecord is negative"))
	}
	if c.SweepEvery < 0 {
		errs = append(errs, errors.New("pebblestore: open: SweepEvery is negative: leave Run away to have no sweeps"))
	}
	return c, errors.Join(errs...)
}
