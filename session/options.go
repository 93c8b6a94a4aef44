// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/belay-ha/belay/internal/wire"
)

// Options are the optional settings of New. The zero value of each field is its
// default. They are copied: changing them later has no effect.
type Options struct {
	// Idle ends a session that was not used for so long. Default 30 min;
	// negative: no idle limit. A session's end is moved at most ten times per
	// Idle, so it may come up to Idle/10 early.
	Idle time.Duration
	// Lifetime ends a session so long after log-in, or after its creation while
	// anonymous, whatever its use. Default 12 h; negative: no limit.
	Lifetime time.Duration
	// Mode says how near the sessions are kept. Default Shared.
	Mode Mode
	// Cache is where Coherent keeps them; it needs one.
	Cache Cache
	// Route is the name of this server in Sticky mode: 1 to 32 of A-Z a-z 0-9
	// _ - and dot, the one the balancer knows it by, and no other server's.
	Route string
	// Backup says when Sticky mode writes to the store. Default Sync.
	Backup Backup
	// Granularity says how much of a session is written. Default ModifiedAttributes.
	Granularity Granularity
	// Interval is the pause between two backups of Backup: Interval.
	Interval time.Duration
	// MaxHeld bounds how many sessions Sticky holds. Default 100,000; what is
	// more is used as in Shared mode.
	MaxHeld int
	// MaxBehind bounds how many sessions the store may be behind with, in Async
	// and Interval; above that requests write to the store themselves. Default 10,000.
	MaxBehind int
	// FlushTimeout bounds the last backup, when the context of Run ends, and each
	// one that a draining gateway asks for. Default 10 s.
	FlushTimeout time.Duration
	// MaxStale bounds for how long Coherent, Sticky and sessions in cookies are used without
	// a look at the store, or, the first two, a word from it (see Watcher), and so
	// how long a log-out elsewhere may take to be seen. Default 2 s; with a Carrier
	// 1 min.
	MaxStale time.Duration
	// StaleFor bounds how old a record may be that a Rule with WhenDown: Stale
	// shows while the store is away. Default 1 min.
	StaleFor time.Duration
	// OnRollback says what to do when the store has lost writes that a client
	// has seen. Coherent and Sticky notice that. Default ServeOlder.
	OnRollback RollbackPolicy
	// LateCommits allows changes after the response header in Coherent and Sticky.
	// Their revision cannot be told to the client any more, so for MaxStale his
	// next request may not see them on another server.
	LateCommits bool
	// RotateEvery gives a session a new token that often, with the next answer
	// that can carry it. Requests under way with the old token go on for 30 s.
	// Default: only Renew does.
	RotateEvery time.Duration
	// ClearSiteData, if not empty, is sent as the header of that name with the
	// answer to a log-out, such as `"cache", "storage"`. Default: not sent.
	ClearSiteData string
	// Keep says which attributes are kept, by name. One that is not lives for the
	// request that sets it: it is never stored, what a store has of it is not
	// read and goes with the next write, and a request that uses no other part of
	// the session does not count as its use: it does not move the idle limit.
	// Keep must be pure. Default: all are kept.
	Keep func(attr string) bool
	// DetectChanges finds values that were changed in place, without Set: what
	// Get returned is encoded again at the commit, and compared. It costs an
	// encoding per value that was read.
	DetectChanges bool
	// Carrier keeps sessions in the clients' cookies: package sealed has one. The
	// store gets what is OnServer, the keys of Once, what does not fit, and who
	// was logged out; without a store none of that is to be had, and a copied
	// cookie is good until its session ends. Mode must be Shared.
	Carrier Carrier
	// Cookie describes the cookie that carries the token.
	Cookie Cookie
	// Header, if not empty, is the header field in which the token travels both
	// ways instead of a cookie: for APIs. An empty value in an answer says that
	// the session has ended. A browser does not send such a header by itself, so
	// requests forged by other sites have no session.
	Header string
	// Keys sign tokens, so that a made-up one costs no store call. The first
	// signs, all verify: to change keys, put the new one first and take the old
	// one away after a Lifetime. Each has 16 bytes or more. Default: no
	// signature, a made-up token costs one look-up. Switching it on ends the
	// sessions there are.
	Keys [][]byte
	// LockWait is how long a request waits for the lease of its session, if a
	// Rule locks it. Default 5 s.
	LockWait time.Duration
	// LockTTL is after what time the lease of a process that died is free. A
	// living one extends it. Default 10 s, at least 100 ms.
	LockTTL time.Duration
	// Rules are exceptions for some requests.
	Rules []Rule
	// Codec encodes attributes. Default JSON.
	Codec Codec
	// Timeout bounds each call to the store. Calls that begin at about the same
	// time share a timer, so that one may have up to 1/16 less. Default 2 s.
	Timeout time.Duration
	// CommitTimeout bounds a whole commit with its retries. It does not end
	// when the client goes away. Default 5 s.
	CommitTimeout time.Duration
	// MaxSize bounds the attributes of a session in bytes, names and values
	// together: a request that goes over it fails with ErrTooLarge and changes
	// nothing. Stores may have limits of their own. Default 1 MiB; negative: no bound.
	MaxSize int
	// OnceKeys is how many keys of Session.Once a session remembers, the newest
	// first; each costs 16 bytes of the record. Default 32.
	OnceKeys int
	// MaxPerUser limits how many sessions an owner may have at a time, counted
	// at log-in; WhenTooMany says what happens at the limit. Default: no limit.
	// It needs a store that is an Indexer.
	MaxPerUser  int
	WhenTooMany TooMany
	// Hooks are told what happens.
	Hooks Hooks
	// Logger gets what no caller can be told. Default: none.
	Logger *slog.Logger
	// ErrorHandler answers a request whose session could not be loaded or
	// committed. It must write one whole answer. Default: Manager.Error's text.
	ErrorHandler func(w http.ResponseWriter, r *http.Request, err error)
}

// TooMany says what a log-in does that finds MaxPerUser sessions.
type TooMany int

const (
	// EndOldest ends the owner's oldest sessions. The default.
	EndOldest TooMany = iota
	// RejectNew fails the log-in with ErrTooMany.
	RejectNew
)

// Cookie describes the session cookie. The zero value is the safest one that
// browsers know: "__Host-id=…; Path=/; HttpOnly; Secure; SameSite=Lax", gone
// when the browser closes.
type Cookie struct {
	// Name defaults to "__Host-id"; to "__Secure-id" if Domain or Path say that
	// a __Host- cookie is impossible; to "id" if Insecure.
	Name string
	// Domain is the Domain attribute; empty: this host only.
	Domain string
	// Path is the Path attribute; default "/".
	Path string
	// SameSite defaults to Lax.
	SameSite http.SameSite
	// Persistent adds Max-Age, so that the cookie outlives the browser
	// ("remember me"): the session's Lifetime, at most 400 days.
	Persistent bool
	// Insecure drops Secure and the name's prefix, for plain http on a
	// developer's machine. Anybody on the network can take over such a session.
	Insecure bool
	// Partitioned adds the Partitioned attribute (CHIPS).
	Partitioned bool
}

const maxCookieAge = 400 * 24 * time.Hour // what browsers grant at most (RFC 6265bis)

func (o *Options) withDefaults() (Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	def(&c.Idle, 30*time.Minute)
	def(&c.Lifetime, 12*time.Hour)
	def(&c.Timeout, 2*time.Second)
	def(&c.CommitTimeout, 5*time.Second)
	def(&c.OnceKeys, 32)
	def(&c.MaxSize, 1<<20)
	def(&c.LockWait, 5*time.Second)
	def(&c.LockTTL, 10*time.Second)
	if c.Carrier != nil {
		def(&c.MaxStale, time.Minute)
	}
	def(&c.MaxStale, 2*time.Second)
	def(&c.StaleFor, time.Minute)
	def(&c.MaxHeld, 100_000)
	def(&c.MaxBehind, 10_000)
	def(&c.FlushTimeout, 10*time.Second)
	if c.Codec == nil {
		c.Codec = JSON{}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	var errs []error
	if c.Timeout < 0 || c.CommitTimeout < 0 {
		errs = append(errs, errors.New("session: Timeout and CommitTimeout cannot be negative: a store call without a limit could hang a request for ever"))
	}
	if c.OnceKeys < 0 || c.OnceKeys > 1024 {
		errs = append(errs, fmt.Errorf("session: OnceKeys must be 1 to 1024, not %d", c.OnceKeys))
	}
	if c.MaxStale < 0 || c.StaleFor < 0 {
		errs = append(errs, errors.New("session: MaxStale and StaleFor cannot be negative"))
	}
	errs = append(errs, c.legal())
	for _, d := range []time.Duration{c.Idle, c.Lifetime} {
		if d > 0 && d < time.Second {
			errs = append(errs, fmt.Errorf("session: Idle and Lifetime must be at least 1 s, not %v", d))
		}
	}
	return c, errors.Join(errs...)
}

// legal refuses what does not go together. docs/modes.md has the table.
func (o *Options) legal() error {
	var errs []error
	refuse := func(yes bool, format string, args ...any) {
		if yes {
			errs = append(errs, fmt.Errorf("session: "+format, args...))
		}
	}
	shared, coherent, sticky := o.Mode == Shared, o.Mode == Coherent, o.Mode == Sticky
	refuse(!shared && !coherent && !sticky, "Mode %d does not exist", o.Mode)
	refuse(coherent && o.Cache == nil, "Coherent needs a Cache: near.New makes one")
	refuse(!coherent && o.Cache != nil, "only Coherent uses a Cache: leave it away, or change the Mode")
	refuse(shared && o.LateCommits, "LateCommits is for Coherent and Sticky; Shared allows late changes as it is")
	refuse(sticky && !wire.ValidRoute(o.Route), "Sticky needs a Route of 1 to 32 letters, digits, _ - or dot, not %q", o.Route)
	refuse(!sticky && o.Route != "", "only Sticky has a Route: leave it away, or change the Mode")
	refuse(o.Backup < Sync || o.Backup > Interval, "Backup %d does not exist", o.Backup)
	refuse(!sticky && o.Backup != Sync, "only Sticky may write later than it answers: leave Backup at Sync, or change the Mode")
	refuse((o.Backup == Interval) != (o.Interval > 0) || o.Interval < 0, "Backup: Interval and a positive Interval belong together")
	refuse(o.Granularity < ModifiedAttributes || o.Granularity > WholeSession, "Granularity %d does not exist", o.Granularity)
	refuse(coherent && o.Granularity == WholeSession, "with WholeSession every request writes, and Coherent is there so that most need not: change one of them")
	refuse(o.Carrier != nil && o.Granularity == WholeSession, "with a Carrier a session is always one piece: leave Granularity away")
	refuse(o.LockWait < 0, "LockWait cannot be negative")
	refuse(o.LockTTL < 100*time.Millisecond, "LockTTL must be at least 100 ms, not %v", o.LockTTL)
	refuse(o.RotateEvery < 0, "RotateEvery cannot be negative")
	refuse(o.MaxHeld < 0 || o.MaxBehind < 0 || o.FlushTimeout < 0, "MaxHeld, MaxBehind and FlushTimeout cannot be negative")
	carries := o.Carrier != nil
	refuse(carries && !shared, "with a Carrier the Mode is Shared: the client has the session, nobody else holds it")
	refuse(carries && o.Lifetime < 0, "with a Carrier there must be a Lifetime: a copied cookie would be good for ever")
	refuse(carries && len(o.Keys) > 0, "with a Carrier leave Keys away: what it seals needs no signature")
	refuse(carries && o.RotateEvery > 0, "with a Carrier leave RotateEvery away: each cookie it makes is another")
	refuse(carries && o.MaxPerUser > 0, "MaxPerUser needs sessions that can be listed, and those in cookies cannot")
	refuse(o.OnRollback < ServeOlder || o.OnRollback > RefuseOlder, "OnRollback %d does not exist", o.OnRollback)
	refuse(o.OnRollback == RefuseOlder && shared, "Shared remembers no revision, so it cannot refuse an older one: leave OnRollback away, or change the Mode")
	refuse(o.WhenTooMany < EndOldest || o.WhenTooMany > RejectNew, "WhenTooMany %d does not exist", o.WhenTooMany)
	refuse(o.MaxPerUser < 0, "MaxPerUser cannot be negative: leave it away to have no limit")
	refuse(o.WhenTooMany != EndOldest && o.MaxPerUser == 0, "WhenTooMany says what happens at a limit: set MaxPerUser, too")
	for i := range o.Rules {
		r := &o.Rules[i]
		refuse(r.WhenDown == Stale && !coherent && !carries, "rule %q: Stale needs Coherent mode or a Carrier", r.Pattern)
		refuse(r.WhenDown < Unavailable || r.WhenDown > Stale, "rule %q: WhenDown %d does not exist", r.Pattern, r.WhenDown)
		refuse(r.WhenLocked < Refuse || r.WhenLocked > GoReadOnly, "rule %q: WhenLocked %d does not exist", r.Pattern, r.WhenLocked)
		refuse(r.WhenLocked != Refuse && !r.Lock, "rule %q: WhenLocked says what happens without the lease: set Lock, too", r.Pattern)
		refuse(r.Ignore && *r != Rule{Pattern: r.Pattern, Ignore: true}, "rule %q: what is ignored has no session to have rules for", r.Pattern)
	}
	return errors.Join(errs...)
}

func def[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}
