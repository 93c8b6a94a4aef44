// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package killtest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/belay-ha/belay/session"
)

// Child is the first argument of a process that writes, Writers how many writers it
// has.
const (
	Child   = "child-writers"
	Writers = 8
)

// Store is one with an index of owners, and something to do beside its calls.
type Store interface {
	session.Store
	session.Indexer
	Run(ctx context.Context) error
}

// Write writes until the process is killed, and prints a line for each write that
// was acknowledged. While the store is away nothing is. The round tells what a
// process makes from what others before it made.
func Write(ctx context.Context, s Store, round string) error {
	r, err := strconv.Atoi(round)
	if err != nil {
		return err
	}
	say("open", 0, 0)
	var wg sync.WaitGroup
	errs := make([]error, Writers+1)
	wg.Go(func() { errs[Writers] = s.Run(ctx) })
	for w := range Writers {
		wg.Go(func() { errs[w] = write(ctx, s, w, r) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// say writes one line at once: it is whole, or not there.
func say(what string, w int, n uint64) { fmt.Printf("%s %d %d\n", what, w, n) }

// mainID is the session that a writer updates, sideID one it makes and perhaps
// deletes.
func mainID(w int) session.ID { return sideID(w, 0, 0) }

func sideID(w, round, n int) session.ID {
	id := session.ID{Generation: byte(w)}
	binary.BigEndian.PutUint32(id.Hash[:], uint32(w+n*Writers)) // spread over what a store locks
	binary.BigEndian.PutUint32(id.Hash[8:], uint32(round))
	binary.BigEndian.PutUint32(id.Hash[12:], uint32(n))
	return id
}

func ownerOf(w int) string { return "owner " + strconv.Itoa(w) }

func record() session.Record {
	now := time.Now().Truncate(time.Millisecond)
	return session.Record{Rev: session.Rev{Term: 1, N: 1}, Created: now, Seen: now, Expires: now.Add(time.Hour), Attrs: session.Attrs{{Name: "n", Value: []byte("1")}}}
}

func write(ctx context.Context, s Store, w, round int) error {
	if err := s.Create(ctx, mainID(w), record()); err != nil && !errors.Is(err, session.ErrExists) && !errors.Is(err, session.ErrUnavailable) {
		return err
	}
	for n := 1; ; n++ {
		switch err := update(ctx, s, w, n); {
		case errors.Is(err, session.ErrUnavailable):
			continue
		case err != nil: // there is no other writer: a conflict is one with itself
			return err
		}
		if err := beside(ctx, s, w, round, n); err != nil && !errors.Is(err, session.ErrUnavailable) {
			return err
		}
	}
}

// update moves the session's place in what is sorted by time, too.
func update(ctx context.Context, s Store, w, n int) error {
	rec, err := s.Load(ctx, mainID(w))
	if err != nil {
		return err
	}
	was := rec.Rev
	rec.Rev = was.Next()
	rec.Attrs = rec.Attrs.With("n", []byte(strconv.FormatUint(rec.Rev.N, 10)))
	rec.Expires = time.Now().Add(time.Hour + time.Duration(n%60)*time.Minute).Truncate(time.Millisecond)
	if err := s.Update(ctx, mainID(w), rec, was); err != nil {
		return err
	}
	say("update", w, rec.Rev.N)
	return s.Touch(ctx, mainID(w), rec.Expires.Add(3*time.Minute))
}

// beside makes a session of an owner, and ends every second one.
func beside(ctx context.Context, s Store, w, round, n int) error {
	owner, id, rec := ownerOf(w), sideID(w, round, n), record()
	rec.Owner = owner
	if _, err := s.Index(ctx, owner, id, time.Time{}); err != nil {
		return err
	}
	if err := s.Create(ctx, id, rec); err != nil {
		return err
	}
	say("create", w, uint64(n))
	if n%2 == 0 {
		if err := s.Delete(ctx, id); err != nil {
			return err
		}
		say("delete", w, uint64(n))
	}
	if n%5 != 0 {
		return nil
	}
	if err := s.RaiseEpoch(ctx, owner); err != nil {
		return err
	}
	epoch, err := s.Epoch(ctx, owner)
	if err == nil {
		say("epoch", w, epoch)
	}
	return err
}
