// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/belay-ha/belay/session"
)

// now has the resolution of records.
func now() time.Time { return time.Now().Truncate(time.Millisecond) }

// record is a plain one that lives for an hour.
func record(owner string) session.Record {
	t := now()
	return session.Record{
		Rev: session.Rev{Term: 1, N: 1}, Owner: owner,
		Created: t, Seen: t, Expires: t.Add(time.Hour), Ends: t.Add(12 * time.Hour),
		Attrs: session.Attrs{{Name: "who", Value: []byte(owner)}},
	}
}

// next is the write that follows r and changes one attribute.
func next(r session.Record, name, value string) session.Record {
	r.Rev = r.Rev.Next()
	r.Seen = now()
	r.Attrs = r.Attrs.With(name, []byte(value))
	return r
}

// everything has a value in every field, none of them harmless.
func everything(maxValue int) session.Record {
	t := now()
	big := bytes.Repeat([]byte("\x00\r\n\xff*$binary"), maxValue/12)
	var attrs session.Attrs
	for name, value := range map[string]string{
		"":                         "an empty name",
		"empty":                    "",
		"nul":                      "\x00",
		"crlf":                     "\r\n$3\r\nfoo\r\n",
		"big":                      string(big),
		"\xff\x00":                 "a name that is no text",
		"имя 名前 🛒 %s":              "unicode",
		strings.Repeat("long", 64): "a long name",
		"m":                        "not the store's own field",
		"r":                        "nor this one",
	} {
		attrs = attrs.With(name, []byte(value))
	}
	return session.Record{
		Rev:   session.Rev{Term: math.MaxInt64, N: 1<<53 + 1},
		Owner: "Zoë {42} \x00:* 用户",
		// Every time differs, so that none can stand in for another.
		Created: t.Add(-5 * time.Hour), Seen: t.Add(-3 * time.Minute),
		Expires: t.Add(29 * time.Minute), Ends: t.Add(7 * time.Hour), AuthTime: t.Add(-time.Hour - time.Millisecond),
		Issued: t.Add(-2 * time.Hour), Follow: true,
		Prev:  session.ID{Generation: 255, Hash: [20]byte{1, 2, 3, 19: 4}},
		Next:  session.ID{Generation: 254, Hash: [20]byte{5, 19: 6}},
		Once:  []session.OnceKey{{1, 15: 2}, {}, {255}},
		Attrs: attrs,
	}
}

// diff says in which field two records differ; the store's own CAS is no part
// of a record.
func diff(got, want session.Record) error {
	var errs []error
	add := func(field string, got, want any) {
		errs = append(errs, fmt.Errorf("%s: got %v, want %v", field, got, want))
	}
	if got.Rev != want.Rev {
		add("Rev", got.Rev, want.Rev)
	}
	if got.Owner != want.Owner {
		add("Owner", got.Owner, want.Owner)
	}
	if got.Prev != want.Prev {
		add("Prev", got.Prev, want.Prev)
	}
	if got.Next != want.Next {
		add("Next", got.Next, want.Next)
	}
	if got.Follow != want.Follow {
		add("Follow", got.Follow, want.Follow)
	}
	if !slices.Equal(got.Once, want.Once) {
		add("Once", got.Once, want.Once)
	}
	for _, f := range []struct {
		name      string
		got, want time.Time
	}{
		{"Created", got.Created, want.Created},
		{"Seen", got.Seen, want.Seen},
		{"Expires", got.Expires, want.Expires},
		{"Ends", got.Ends, want.Ends},
		{"Issued", got.Issued, want.Issued},
		{"AuthTime", got.AuthTime, want.AuthTime},
	} {
		if !f.got.Equal(f.want) {
			add(f.name, f.got, f.want)
		}
	}
	return errors.Join(append(errs, diffAttrs(got.Attrs, want.Attrs))...)
}

func diffAttrs(got, want session.Attrs) error {
	names := func(a session.Attrs) (n []string) {
		for _, x := range a {
			n = append(n, x.Name)
		}
		return n
	}
	if g, w := names(got), names(want); !slices.Equal(g, w) {
		return fmt.Errorf("attribute names: got %q, want %q", g, w)
	}
	for i := range got {
		if !bytes.Equal(got[i].Value, want[i].Value) {
			return fmt.Errorf("attribute %q: got %d bytes %.40q, want %d bytes %.40q", got[i].Name,
				len(got[i].Value), got[i].Value, len(want[i].Value), want[i].Value)
		}
	}
	return nil
}

// want compares an error with the sentinel it should be; nil: no error.
func want(what string, got, sentinel error) error {
	if errors.Is(got, sentinel) {
		return nil
	}
	return fmt.Errorf("%s: got error %v, want %v", what, got, sentinel)
}

// holds reports an error unless the store returns exactly rec for id.
func (c *trial) holds(ctx context.Context, what string, id session.ID, rec session.Record) error {
	got, err := c.store.Load(ctx, id)
	if err != nil {
		return fmt.Errorf("%s: load: %w", what, err)
	}
	if err := diff(got, rec); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// absent reports an error unless the store has nothing for id.
func (c *trial) absent(ctx context.Context, what string, id session.ID) error {
	_, err := c.store.Load(ctx, id)
	return want(what+": load", err, session.ErrNotFound)
}
