// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore_test

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/sqlstore"
	"github.com/belay-ha/belay/session/sqlstore/mysql"
	"github.com/belay-ha/belay/session/sqlstore/postgres"
	"github.com/belay-ha/belay/session/sqlstore/sqlite"
)

// childArg makes the test binary a process that writes until it is killed:
// childArg, engine, address, prefix, round.
const childArg = "child-writers"

func TestMain(m *testing.M) {
	if len(os.Args) == 6 && os.Args[1] == childArg {
		if err := child(os.Args[2], os.Args[3], os.Args[4], os.Args[5]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	// The tests mostly wait, for servers and for what expires: more of them at a time
	// than there are processors.
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

const childWriters = 8

// connectTo opens the database of a child.
func connectTo(kind, address string) (*sqlstore.Database, error) {
	switch kind {
	case "postgres":
		return postgres.Open(address, nil)
	case "mysql":
		return mysql.Open(address, nil)
	default:
		return sqlite.Open(address)
	}
}

// mainID is the session that a writer updates, sideID one it makes and perhaps
// deletes.
func mainID(w int) session.ID { return sideID(w, 0, 0) }

func sideID(w, round, n int) session.ID {
	id := session.ID{Generation: byte(w)}
	binary.BigEndian.PutUint32(id.Hash[:], uint32(w))
	binary.BigEndian.PutUint32(id.Hash[8:], uint32(round))
	binary.BigEndian.PutUint32(id.Hash[12:], uint32(n))
	return id
}

// child writes, and prints a line for each write that was acknowledged.
func child(kind, address, prefix, roundText string) error {
	round, err := strconv.Atoi(roundText)
	if err != nil {
		return err
	}
	db, err := connectTo(kind, address)
	if err != nil {
		return err
	}
	ctx := context.Background()
	s, err := sqlstore.Open(ctx, db, &sqlstore.Options{Prefix: prefix, SweepEvery: 10 * time.Millisecond})
	if err != nil {
		return err
	}
	fmt.Println("open 0 0")
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

// write goes on through errors: while the server is away nothing is acknowledged.
func write(ctx context.Context, s *sqlstore.Store, w, round int) error {
	owner := ownerOf(w)
	rec := record(time.Hour)
	if err := s.Create(ctx, mainID(w), rec); err != nil && !errors.Is(err, session.ErrExists) && !errors.Is(err, session.ErrUnavailable) {
		return err
	}
	for n := 1; ; n++ {
		rec, err := s.Load(ctx, mainID(w))
		if errors.Is(err, session.ErrUnavailable) {
			continue
		}
		if err != nil {
			return err
		}
		upd := next(rec, strconv.FormatUint(rec.Rev.Next().N, 10))
		upd.Expires = time.Now().Add(time.Hour + time.Duration(n%60)*time.Minute).Truncate(time.Millisecond)
		err = s.Update(ctx, mainID(w), upd, rec.Rev)
		switch {
		case errors.Is(err, session.ErrUnavailable):
			continue
		case err != nil: // there is no other writer: a conflict is one with itself
			return err
		}
		say("update", w, upd.Rev.N)
		id, side := sideID(w, round, n), record(time.Hour)
		side.Owner = owner
		if _, err := s.Index(ctx, owner, id, time.Time{}); err != nil {
			continue
		}
		if err := s.Create(ctx, id, side); err != nil {
			continue
		}
		say("create", w, uint64(n))
		if n%2 == 0 {
			if err := s.Delete(ctx, id); err == nil {
				say("delete", w, uint64(n))
			}
		}
		if n%5 == 0 && s.RaiseEpoch(ctx, owner) == nil {
			if epoch, err := s.Epoch(ctx, owner); err == nil {
				say("epoch", w, epoch)
			}
		}
	}
}

func ownerOf(w int) string { return "owner " + strconv.Itoa(w) }
