// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"encoding/gob"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/alexedwards/scs/v2"
	scsmem "github.com/alexedwards/scs/v2/memstore"
	"github.com/boj/redistore"
	"github.com/gorilla/sessions"
	"github.com/redis/rueidis"

	"github.com/belay-ha/belay/internal/redisconn"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
	"github.com/belay-ha/belay/session/near"
	"github.com/belay-ha/belay/session/redisstore"
)

// backend makes the handler of one app. What runs beside it ends with ctx.
type backend struct {
	redis bool // it needs one
	// stateless: it keeps no session; its counter stays 0.
	stateless bool
	open      func(ctx context.Context, redis string) (http.Handler, error)
}

// backends are the apps by name; nothing changes it.
var backends = map[string]backend{
	"plain":        {stateless: true, open: openPlain},
	"redis-get":    {redis: true, stateless: true, open: openRedisGet},
	"shared-mem":   {open: belayOn(openMem, nil)},
	"shared-redis": {redis: true, open: belayOn(openRedis("shared_redis:"), nil)},
	"sticky-async": {redis: true, open: belayOn(openRedis("sticky_async:"), func(o *session.Options) error {
		o.Mode, o.Route, o.Backup = session.Sticky, "app1", session.Async
		return nil
	})},
	"sticky-sync": {redis: true, open: belayOn(openRedis("sticky_sync:"), func(o *session.Options) error {
		o.Mode, o.Route = session.Sticky, "app1"
		return nil
	})},
	"coherent": {redis: true, open: belayOn(openRedis("coherent:"), func(o *session.Options) (err error) {
		o.Mode = session.Coherent
		o.Cache, err = near.New(nil)
		return err
	})},
	"scs-mem":       {open: func(context.Context, string) (http.Handler, error) { return scsOn(scsmem.New()), nil }},
	"scs-redis":     {redis: true, open: openSCSRedis},
	"gorilla-redis": {redis: true, open: openGorilla},
}

// openPlain is an app without sessions: a cookie goes both ways all the same.
func openPlain(context.Context, string) (http.Handler, error) {
	zero := func(http.ResponseWriter, *http.Request) (int, error) { return 0, nil }
	p := pages{fill: anyCookie, read: zero, write: zero}
	return p.handler(), nil
}

func anyCookie(w http.ResponseWriter, _ *http.Request) error {
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: rand.Text(), Path: "/", HttpOnly: true})
	return nil
}

// lasting is a context with a deadline that never comes, and no timer: a call of a
// bare client is to cost what the call does.
type lasting struct{ context.Context }

func (lasting) Deadline() (time.Time, bool) { return time.Now().Add(time.Hour), true }

// openRedisGet asks Redis for a value as large as a session, and does nothing
// with it; a write sets it besides. No session that lives in Redis can go below.
func openRedisGet(ctx context.Context, address string) (http.Handler, error) {
	conn, err := redisconn.Open(ctx, "redis://"+address+"/0", nil)
	if err != nil {
		return nil, err
	}
	const key = "bench:value"
	var value strings.Builder
	for i := range attributes {
		value.WriteString(text(i))
	}
	set := func(b rueidis.Builder) rueidis.Completed { return b.Set().Key(key).Value(value.String()).Build() }
	if err := conn.Do(ctx, set).Err(); err != nil {
		return nil, err
	}
	long := lasting{ctx}
	get := func(http.ResponseWriter, *http.Request) (int, error) {
		v, err := conn.Do(long, func(b rueidis.Builder) rueidis.Completed { return b.Get().Key(key).Build() }).AsBytes()
		if err == nil && len(v) != value.Len() {
			err = fmt.Errorf("GET: %d bytes, want %d", len(v), value.Len())
		}
		return 0, err
	}
	both := func(w http.ResponseWriter, r *http.Request) (int, error) {
		if _, err := get(w, r); err != nil {
			return 0, err
		}
		return 0, conn.Do(long, set).Err()
	}
	p := pages{fill: anyCookie, read: get, write: both}
	return p.handler(), nil
}

func openMem(context.Context, string) (session.Store, error) { return memstore.New(nil) }

// openRedis gives each app sessions, and a channel for notices, of its own: no other
// app works while one is measured.
func openRedis(prefix string) func(ctx context.Context, address string) (session.Store, error) {
	return func(ctx context.Context, address string) (session.Store, error) {
		return redisstore.Open(ctx, "redis://"+address+"/0", &redisstore.Options{Prefix: prefix})
	}
}

// belayOn is Belay with its defaults, but for what set changes.
func belayOn(store func(context.Context, string) (session.Store, error), set func(*session.Options) error) func(context.Context, string) (http.Handler, error) {
	return func(ctx context.Context, redis string) (http.Handler, error) {
		s, err := store(ctx, redis)
		if err != nil {
			return nil, err
		}
		opts := &session.Options{Cookie: session.Cookie{Name: cookieName, Insecure: true}}
		if set != nil {
			if err := set(opts); err != nil {
				return nil, err
			}
		}
		m, err := session.New(s, opts)
		if err != nil {
			return nil, err
		}
		go func() { _ = m.Run(ctx) }()
		return belayPages(m).handler(), nil
	}
}

func belayPages(m *session.Manager) *pages {
	n := session.NewKey[int](counter)
	var keys []session.Key[string]
	for i := range attributes {
		keys = append(keys, session.NewKey[string](attribute(i)))
	}
	return &pages{
		wrap: m.Handler,
		fill: func(_ http.ResponseWriter, r *http.Request) error {
			s, err := m.Get(r.Context())
			for i, k := range keys {
				k.Set(s, text(i))
			}
			n.Set(s, 0)
			return err
		},
		read: func(_ http.ResponseWriter, r *http.Request) (int, error) {
			s, err := m.Get(r.Context())
			v, _ := n.Get(s)
			return v, err
		},
		write: func(_ http.ResponseWriter, r *http.Request) (int, error) {
			s, err := m.Get(r.Context())
			return n.Update(s, func(v int) int { return v + 1 }), err
		},
	}
}

// scsOn is scs with its defaults.
func scsOn(store scs.Store) http.Handler {
	m := scs.New()
	m.Store, m.Cookie.Name = store, cookieName
	p := pages{
		wrap: m.LoadAndSave,
		fill: func(_ http.ResponseWriter, r *http.Request) error {
			for i := range attributes {
				m.Put(r.Context(), attribute(i), text(i))
			}
			m.Put(r.Context(), counter, 0)
			return nil
		},
		read: func(_ http.ResponseWriter, r *http.Request) (int, error) {
			return m.GetInt(r.Context(), counter), nil
		},
		write: func(_ http.ResponseWriter, r *http.Request) (int, error) {
			v := m.GetInt(r.Context(), counter) + 1
			m.Put(r.Context(), counter, v)
			return v, nil
		},
	}
	return p.handler()
}

// openGorilla is gorilla/sessions with boj/redistore, as its README has it.
func openGorilla(_ context.Context, address string) (http.Handler, error) {
	gob.Register(0) // gorilla's values are of type any
	store, err := redistore.NewRediStore(connections, "tcp", address, "", "", []byte(rand.Text()))
	if err != nil {
		return nil, err
	}
	store.Options.HttpOnly, store.Options.SameSite = true, http.SameSiteLaxMode
	p := pages{
		fill: func(w http.ResponseWriter, r *http.Request) error {
			s, err := store.Get(r, cookieName)
			if err != nil {
				return err
			}
			for i := range attributes {
				s.Values[attribute(i)] = text(i)
			}
			s.Values[counter] = 0
			return sessions.Save(r, w)
		},
		read: func(_ http.ResponseWriter, r *http.Request) (int, error) {
			s, err := store.Get(r, cookieName)
			if err != nil {
				return 0, err
			}
			v, _ := s.Values[counter].(int)
			return v, nil
		},
		write: func(w http.ResponseWriter, r *http.Request) (int, error) {
			s, err := store.Get(r, cookieName)
			if err != nil {
				return 0, err
			}
			v, _ := s.Values[counter].(int)
			s.Values[counter] = v + 1
			return v + 1, sessions.Save(r, w)
		},
	}
	return p.handler(), nil
}
