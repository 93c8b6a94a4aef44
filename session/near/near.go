// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package near

import (
	"errors"
	"fmt"
	"math"

	"github.com/maypok86/otter/v2"

	"github.com/belay-ha/belay/session"
)

var _ session.Cache = (*Cache)(nil)

// Options are the optional settings of New.
type Options struct {
	// MaxBytes bounds the memory of the records, estimated from names, values
	// and a fixed part for each. Default 64 MiB.
	MaxBytes int64
}

// Cache is a session.Cache. It is safe for concurrent use.
type Cache struct {
	c *otter.Cache[session.ID, *session.Held]
}

// New makes an empty cache. It starts nothing.
func New(opts *Options) (*Cache, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 64 << 20
	}
	if o.MaxBytes < 0 {
		return nil, errors.New("near: new: MaxBytes is negative: a cache needs a bound")
	}
	c, err := otter.New(&otter.Options[session.ID, *session.Held]{
		MaximumWeight: uint64(o.MaxBytes),
		Weigher:       func(_ session.ID, h *session.Held) uint32 { return weight(h) },
	})
	if err != nil {
		return nil, fmt.Errorf("near: new: %w", err)
	}
	return &Cache{c}, nil
}

// Get implements session.Cache.
func (c *Cache) Get(id session.ID) (*session.Held, bool) { return c.c.GetIfPresent(id) }

// Set implements session.Cache.
func (c *Cache) Set(id session.ID, h *session.Held) { c.c.Set(id, h) }

// Len is how many records are held, about.
func (c *Cache) Len() int { return c.c.EstimatedSize() }

// fixed is what a record costs without its owner and attributes: the structs,
// and otter's node.
const fixed = 512

func weight(h *session.Held) uint32 {
	n := fixed + len(h.Record.Owner) + 16*len(h.Record.Once)
	for _, a := range h.Record.Attrs {
		n += 40 + len(a.Name) + len(a.Value)
	}
	return uint32(min(n, math.MaxUint32))
}
