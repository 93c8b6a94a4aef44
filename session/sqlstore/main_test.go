// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/belay-ha/belay/session/internal/killtest"
	"github.com/belay-ha/belay/session/sqlstore"
	"github.com/belay-ha/belay/session/sqlstore/mysql"
	"github.com/belay-ha/belay/session/sqlstore/postgres"
	"github.com/belay-ha/belay/session/sqlstore/sqlite"
)

// The test binary is also a process that writes: killtest.Child, engine, address,
// prefix, round.
func TestMain(m *testing.M) {
	if len(os.Args) == 6 && os.Args[1] == killtest.Child {
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

func child(kind, address, prefix, round string) error {
	db, err := connectTo(kind, address)
	if err != nil {
		return err
	}
	ctx := context.Background()
	s, err := sqlstore.Open(ctx, db, &sqlstore.Options{Prefix: prefix, SweepEvery: 10 * time.Millisecond})
	if err != nil {
		return err
	}
	return killtest.Write(ctx, s, round)
}
