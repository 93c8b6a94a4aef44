// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/belay-ha/belay/session/sqlstore"
)

// Open opens a file, which the store makes if it is not there: with a write-ahead
// log, and each write on the disk before it is acknowledged. Any number of
// processes of one machine may open it; never over a network file system.
func Open(path string) (*sqlstore.Database, error) {
	if path == "" || strings.HasPrefix(path, ":memory:") {
		return nil, errors.New("sqlite: open: the path of a file is wanted; sessions in memory are memstore's")
	}
	full, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("sqlite: open: %w", err)
	}
	// Writers wait in line for the one connection, not for a lock of the file, which
	// is given to anybody.
	writer, err := pool(full, 1, "_txlock=immediate", "_pragma=journal_mode(WAL)", "_pragma=synchronous(FULL)")
	if err != nil {
		return nil, err
	}
	reader, err := pool(full, max(2, runtime.GOMAXPROCS(0)), "_pragma=query_only(1)")
	if err != nil {
		return nil, errors.Join(err, writer.Close())
	}
	return &sqlstore.Database{
		Dialect: Dialect(),
		Hosts:   []sqlstore.Host{{Name: full, DB: writer, Reads: reader}},
	}, nil
}

func pool(path string, conns int, settings ...string) (*sql.DB, error) {
	query := strings.Join(append(settings, "_pragma=busy_timeout(50)"), "&")
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+query)
	if err != nil {
		return nil, fmt.Errorf("sqlite: open: %w", err)
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}
