// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcache

import (
	"bufio"
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Entry is what a listing tells of an entry.
type Entry struct {
	Key     string
	Expires time.Time // zero: never
	Size    int       // bytes of memory, with key and overhead
}

// Entries lists the entries of the server, on a connection of its own, until
// each was given or ctx ends. Entries that are written meanwhile may be missing. A
// server lists for one client at a time: to others it is ErrBusy. An error of each
// ends the listing.
func (c *Client) Entries(ctx context.Context, each func(Entry) error) error {
	err := c.entries(ctx, each)
	if err != nil {
		return c.refuse("list", err)
	}
	return nil
}

func (c *Client) entries(ctx context.Context, each func(Entry) error) error {
	conn, err := dial(ctx, c.network, c.addr, &c.opts)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer conn.fail(ErrClosed)
	defer context.AfterFunc(ctx, func() { conn.fail(ctx.Err()) })()
	defer context.AfterFunc(c.ctx, func() { conn.fail(ErrClosed) })()
	if _, err := conn.ear.stream.Write([]byte("lru_crawler metadump all\r\n")); err != nil {
		return lost(ctx, err)
	}
	for {
		line, err := dumpLine(conn.r)
		if err != nil {
			return lost(ctx, err)
		}
		switch {
		case line == "END":
			return nil
		case strings.HasPrefix(line, "BUSY"):
			return fmt.Errorf("%w: somebody else lists its entries", ErrBusy)
		case !strings.HasPrefix(line, "key="):
			return unexpected([]byte(line))
		}
		e, err := parseEntry(line)
		if err == nil {
			err = each(e)
		}
		if err != nil {
			return err
		}
	}
}

func lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// dumpLine reads a line, which ends in LF alone if it is about an entry.
func dumpLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return "", readError(err)
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}

// parseEntry reads "key=… exp=… la=… cas=… fetch=… cls=… size=…".
func parseEntry(line string) (Entry, error) {
	var e Entry
	for field := range strings.FieldsSeq(line) {
		name, value, _ := strings.Cut(field, "=")
		var err error
		switch name {
		case "key":
			e.Key, err = url.PathUnescape(value)
		case "exp":
			var n int64
			if n, err = strconv.ParseInt(value, 10, 64); err == nil && n > 0 {
				e.Expires = time.Unix(n, 0)
			}
		case "size":
			e.Size, err = strconv.Atoi(value)
		}
		if err != nil {
			return e, fmt.Errorf("%w: a listing's %q is not what it should be", ErrProtocol, name)
		}
	}
	return e, nil
}
