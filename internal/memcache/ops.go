// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcache

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"
)

// Item is an entry as it was read.
type Item struct {
	Value []byte // the caller's own
	// CAS is the number of this state of the entry, on this node; 0 if the
	// server runs with -C.
	CAS uint64
	// TTL is the time the entry had left, in whole seconds; negative: no end.
	TTL time.Duration
}

// Get returns an entry, or ErrMiss. (ErrMiss, ErrExists and ErrChanged come as they
// are; every other error names the operation and the node.)
func (c *Client) Get(ctx context.Context, key string) (Item, error) {
	return c.get(ctx, &request{op: opGet, key: key}, 0)
}

// GetAndTouch returns an entry and gives it a new time to live, in one step. The
// item's TTL is the one before. It may be shorter than before: see Touch.
func (c *Client) GetAndTouch(ctx context.Context, key string, ttl time.Duration) (Item, error) {
	if ttl <= 0 {
		return Item{}, c.refuse("get", ErrTTL)
	}
	return c.get(ctx, &request{op: opGet, key: key}, ttl)
}

// Touch gives an entry a new time to live, longer or shorter, and returns the time it
// had left and its CAS number, which a touch does not change. There is no value in the item.
func (c *Client) Touch(ctx context.Context, key string, ttl time.Duration) (Item, error) {
	if ttl <= 0 {
		return Item{}, c.refuse("touch", ErrTTL)
	}
	return c.get(ctx, &request{op: opTouch, key: key}, ttl)
}

// get reads, and touches if ttl is not 0.
func (c *Client) get(ctx context.Context, r *request, ttl time.Duration) (Item, error) {
	if err := checkKey(r.key); err != nil {
		return Item{}, c.refuse(opNames[r.op], err)
	}
	if ttl != 0 {
		r.ttl, _ = seconds(ttl, time.Now())
	}
	res, err := c.do(ctx, r)
	if err != nil {
		return Item{}, err
	}
	if res.code == codeEN {
		return Item{}, ErrMiss
	}
	return item(res.answer, res.value), nil
}

func item(a answer, value []byte) Item {
	return Item{Value: value, CAS: a.cas, TTL: time.Duration(a.ttl) * time.Second}
}

// Set writes an entry, whatever was there, and returns its CAS number. Session
// data wants Add or CompareAndSwap: Set revives what was deleted.
func (c *Client) Set(ctx context.Context, key string, value []byte, ttl time.Duration) (uint64, error) {
	return c.store(ctx, &request{op: opSet, key: key, value: value}, ttl)
}

// Add writes an entry if there is none, else ErrExists.
func (c *Client) Add(ctx context.Context, key string, value []byte, ttl time.Duration) (uint64, error) {
	return c.store(ctx, &request{op: opSet, mode: 'E', key: key, value: value}, ttl)
}

// Replace writes an entry if there is one, else ErrMiss.
func (c *Client) Replace(ctx context.Context, key string, value []byte, ttl time.Duration) (uint64, error) {
	return c.store(ctx, &request{op: opSet, mode: 'R', key: key, value: value}, ttl)
}

// CompareAndSwap writes an entry if its CAS number is cas: else ErrChanged, or
// ErrMiss if there is none. It never creates one.
func (c *Client) CompareAndSwap(ctx context.Context, key string, value []byte, ttl time.Duration, cas uint64) (uint64, error) {
	if cas == 0 {
		return 0, c.refuse("set", ErrNoCAS)
	}
	return c.store(ctx, &request{op: opSet, key: key, value: value, cas: cas}, ttl)
}

// Until makes calls that are given up at a time, with context.DeadlineExceeded,
// unless the context ends before. That is what a context with a deadline does, for
// less.
func (c *Client) Until(at time.Time) Calls { return Calls{c, at} }

// Calls are those of Client that session data needs. The values that they write
// have a head, so that nobody has to put both into one slice.
type Calls struct {
	c     *Client
	until time.Time
}

// Get is that of Client.
func (u Calls) Get(ctx context.Context, key string) (Item, error) {
	return u.c.get(ctx, &request{op: opGet, key: key, until: u.until}, 0)
}

// Add is that of Client.
func (u Calls) Add(ctx context.Context, key string, head, value []byte, ttl time.Duration) (uint64, error) {
	return u.c.store(ctx, &request{op: opSet, mode: 'E', key: key, head: head, value: value, until: u.until}, ttl)
}

// CompareAndSwap is that of Client.
func (u Calls) CompareAndSwap(ctx context.Context, key string, head, value []byte, ttl time.Duration, cas uint64) (uint64, error) {
	if cas == 0 {
		return 0, u.c.refuse("set", ErrNoCAS)
	}
	return u.c.store(ctx, &request{op: opSet, key: key, head: head, value: value, cas: cas, until: u.until}, ttl)
}

// store does the writes. The value is copied before it returns.
func (c *Client) store(ctx context.Context, r *request, ttl time.Duration) (uint64, error) {
	err := checkKey(r.key)
	if err == nil {
		r.ttl, err = seconds(ttl, time.Now())
	}
	if err != nil {
		return 0, c.refuse("set", err)
	}
	res, err := c.do(ctx, r)
	if err != nil {
		return 0, err
	}
	switch {
	case res.code == codeHD:
		return res.cas, nil
	case res.code == codeEX:
		return 0, ErrChanged
	case res.code == codeNS && r.mode == 'E':
		return 0, ErrExists
	case res.code == codeNS && r.mode == 0:
		return 0, c.refuse("set", fmt.Errorf("%w: NS to a plain set", ErrProtocol))
	}
	return 0, ErrMiss
}

// Delete removes an entry, or returns ErrMiss.
func (c *Client) Delete(ctx context.Context, key string) error {
	return c.remove(ctx, &request{op: opDelete, key: key})
}

// CompareAndDelete removes an entry if its CAS number is cas: else ErrChanged,
// or ErrMiss if there is none.
func (c *Client) CompareAndDelete(ctx context.Context, key string, cas uint64) error {
	if cas == 0 {
		return c.refuse("delete", ErrNoCAS)
	}
	return c.remove(ctx, &request{op: opDelete, key: key, cas: cas})
}

func (c *Client) remove(ctx context.Context, r *request) error {
	if err := checkKey(r.key); err != nil {
		return c.refuse("delete", err)
	}
	res, err := c.do(ctx, r)
	switch {
	case err != nil:
		return err
	case res.code == codeEX:
		return ErrChanged
	case res.code == codeNF:
		return ErrMiss
	}
	return nil
}

// multiKeys is how many keys travel as one request, so that one caller with many
// keys does not keep the others waiting.
const multiKeys = 64

// GetMulti returns the entries that exist, by key. On an error it returns those
// it has, and says nothing about the others.
func (c *Client) GetMulti(ctx context.Context, keys ...string) (map[string]Item, error) {
	return c.multi(ctx, false, keys)
}

// Look returns what GetMulti does without the values, which stay on the server. It
// counts as a use of the entries.
func (c *Client) Look(ctx context.Context, keys ...string) (map[string]Item, error) {
	return c.multi(ctx, true, keys)
}

func (c *Client) multi(ctx context.Context, bare bool, keys []string) (map[string]Item, error) {
	items := make(map[string]Item, len(keys))
	for _, key := range keys {
		if err := checkKey(key); err != nil {
			return items, c.refuse("get several", err)
		}
	}
	for len(keys) > 0 {
		part := keys[:min(multiKeys, len(keys))]
		keys = keys[len(part):]
		res, err := c.do(ctx, &request{op: opMulti, keys: part, bare: bare})
		if err != nil {
			return items, err
		}
		for _, f := range res.items {
			items[part[f.index]] = item(f.answer, f.value)
		}
	}
	return items, nil
}

// Version asks the server for its version: a round trip on a connection that calls
// use, so that it also tells whether the node is there.
func (c *Client) Version(ctx context.Context) (string, error) {
	res, err := c.do(ctx, &request{op: opVersion})
	return res.text, err
}

// Stats returns the server's statistics: the general ones if group is empty, or
// those of a group, like "settings" or "items".
func (c *Client) Stats(ctx context.Context, group string) (map[string]string, error) {
	switch group {
	case "", "settings", "items", "slabs", "conns", "extstore":
	default:
		return nil, c.refuse("stats", fmt.Errorf("%q is no group of statistics: some others would change the server", strings.ToValidUTF8(group, "?")))
	}
	res, err := c.do(ctx, &request{op: opStats, group: group})
	if err != nil {
		return nil, err
	}
	return maps.Clone(res.stats), nil
}

// refuse names the operation and the node of an error found before sending.
func (c *Client) refuse(op string, err error) error {
	return fmt.Errorf("memcache: %s: %s: %w", op, c.addr, err)
}
