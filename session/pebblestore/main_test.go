// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package pebblestore_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/pebblestore"
)

// childArg makes the test binary a process that writes until it is killed:
// childArg, directory, round.
const childArg = "child-writers"

func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == childArg {
		if err := child(os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

const childWriters = 16

// mainID is the session that a writer updates, sideID one it makes and perhaps
// deletes.
func mainID(w int) session.ID { return sideID(w, 0, 0) }

func sideID(w, round, n int) session.ID {
	id := session.ID{Generation: byte(w)}
	binary.BigEndian.PutUint32(id.Hash[:], uint32(w+n*childWriters)) // spread over the locks
	binary.BigEndian.PutUint32(id.Hash[8:], uint32(round))
	binary.BigEndian.PutUint32(id.Hash[12:], uint32(n))
	return id
}

// child writes, and prints a line for each write that was acknowledged.
func child(dir, roundText string) error {
	round, err := strconv.Atoi(roundText)
	if err != nil {
		return err
	}
	s, err := pebblestore.Open(dir, &pebblestore.Options{BufferBytes: 256 << 10, SweepEvery: time.Millisecond})
	if err != nil {
		return err
	}
	fmt.Println("open 0 0")
	ctx := context.Background()
	var wg sync.WaitGroup
	errs := make([]error, childWriters+1)
	wg.Go(func() { errs[childWriters] = s.Run(ctx) })
	for w := range childWriters {
		wg.Go(func() { errs[w] = write(ctx, s, w, round) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// say writes one line at once: it is whole, or not there.
func say(what string, w int, n uint64) { fmt.Printf("%s %d %d\n", what, w, n) }

func write(ctx context.Context, s *pebblestore.Store, w, round int) error {
	rec, err := s.Load(ctx, mainID(w))
	if errors.Is(err, session.ErrNotFound) {
		rec = record(time.Hour)
		err = s.Create(ctx, mainID(w), rec)
	}
	if err != nil {
		return err
	}
	owner := ownerOf(w)
	for n := 1; ; n++ {
		upd := next(rec, strconv.FormatUint(rec.Rev.Next().N, 10))
		// The index moves each time.
		upd.Expires = time.Now().Add(time.Hour + time.Duration(n%60)*time.Minute).Truncate(time.Millisecond)
		if err := s.Update(ctx, mainID(w), upd, rec.Rev); err != nil {
			return err
		}
		rec = upd
		say("update", w, rec.Rev.N)
		if err := s.Touch(ctx, mainID(w), rec.Expires.Add(3*time.Minute)); err != nil {
			return err
		}
		side := record(time.Hour)
		side.Owner = owner
		if _, err := s.Index(ctx, owner, sideID(w, round, n), time.Time{}); err != nil {
			return err
		}
		if err := s.Create(ctx, sideID(w, round, n), side); err != nil {
			return err
		}
		say("create", w, uint64(n))
		if n%2 == 0 {
			if err := s.Delete(ctx, sideID(w, round, n)); err != nil {
				return err
			}
			say("delete", w, uint64(n))
		}
		if n%5 == 0 {
			if err := s.RaiseEpoch(ctx, owner); err != nil {
				return err
			}
			epoch, err := s.Epoch(ctx, owner)
			if err != nil {
				return err
			}
			say("epoch", w, epoch)
		}
	}
}

func ownerOf(w int) string { return "owner " + strconv.Itoa(w) }
