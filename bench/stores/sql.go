// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/belay-ha/belay/bench/internal/peer"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/sqlstore"
	"github.com/belay-ha/belay/session/sqlstore/mysql"
	"github.com/belay-ha/belay/session/sqlstore/postgres"
	"github.com/belay-ha/belay/session/sqlstore/sqlite"
)

// The databases wait for the disk, as they do without settings.

func (b *bench) openPostgres(ctx context.Context) error {
	bin, err := peer.Find("postgres")
	if err != nil {
		return err
	}
	if real, err := filepath.EvalSymlinks(bin); err == nil {
		bin = real
	}
	dir, as, err := b.owned("postgres")
	if err != nil {
		return err
	}
	data := filepath.Join(dir, "data")
	init := append(as, filepath.Join(filepath.Dir(bin), "initdb"), "-D", data, "-U", "belay", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
	if err := runTool(ctx, dir, init); err != nil {
		return err
	}
	addr, err := peer.FreeAddr()
	if err != nil {
		return err
	}
	p, err := peer.Start(ctx, dir, "postgres", addr, append(as, bin, "-D", data, "-c", "port="+peer.Port(addr),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "dynamic_shared_memory_type=mmap")...)
	if err != nil {
		return err
	}
	b.defers(func() { endGently(p, syscall.SIGINT) })
	open := func(addr string) (*sqlstore.Database, error) {
		return postgres.Open("postgres://belay@"+addr+"/postgres?sslmode=disable", nil)
	}
	if err := accepts(ctx, open, addr); err != nil {
		return err
	}
	return b.addSQL(ctx, "postgres", "disk, with the indexes", addr, open, "SELECT pg_total_relation_size('%ssessions')")
}

func (b *bench) openMariaDB(ctx context.Context) error {
	bin, err := peer.Find("mariadbd")
	if err != nil {
		return err
	}
	install, err := peer.Find("mariadb-install-db")
	if err != nil {
		return err
	}
	dir, as, err := b.owned("mysql")
	if err != nil {
		return err
	}
	data := filepath.Join(dir, "data")
	init := append(as, install, "--no-defaults", "--datadir="+data, "--tmpdir="+dir, "--skip-test-db", "--auth-root-authentication-method=normal")
	if err := runTool(ctx, dir, init); err != nil {
		return err
	}
	addr, err := peer.FreeAddr()
	if err != nil {
		return err
	}
	p, err := peer.Start(ctx, dir, "mariadb", addr, append(as, bin, "--no-defaults", "--datadir="+data, "--tmpdir="+dir,
		"--port="+peer.Port(addr), "--bind-address=127.0.0.1", "--socket="+filepath.Join(dir, "socket"), "--pid-file="+filepath.Join(dir, "pid"), "--skip-name-resolve")...)
	if err != nil {
		return err
	}
	b.defers(func() { endGently(p, syscall.SIGTERM) })
	root, err := mysql.Open("root@tcp("+addr+")/", nil)
	if err != nil {
		return err
	}
	_, err = root.Hosts[0].DB.ExecContext(ctx, "CREATE DATABASE belay")
	if err := errors.Join(err, root.Close()); err != nil {
		return err
	}
	open := func(addr string) (*sqlstore.Database, error) { return mysql.Open("root@tcp("+addr+")/belay", nil) }
	return b.addSQL(ctx, "mariadb", "disk, with the indexes", addr, open, "SELECT file_size FROM information_schema.innodb_sys_tablespaces WHERE name = 'belay/%ssessions'")
}

func (b *bench) openSQLite(ctx context.Context) error {
	db, err := sqlite.Open(filepath.Join(b.dir, "sessions.db"))
	if err != nil {
		return err
	}
	b.defers(func() { _ = db.Close() })
	s, err := sqlstore.Open(ctx, db, &sqlstore.Options{Timeout: patience})
	if err != nil {
		return err
	}
	b.sizedSQL("sqlite", "file", func(size int) (*sqlstore.Database, error) {
		return sqlite.Open(filepath.Join(b.dir, fmt.Sprintf("size-%d.db", size)))
	}, "SELECT page_count * page_size /* %s */ FROM pragma_page_count(), pragma_page_size()")
	return b.addStore(ctx, "sqlite", s, workers)
}

// patience is how long a call may take: what is slow is to be seen as such.
const patience = 30 * time.Second

// addSQL adds a store at a database server.
func (b *bench) addSQL(ctx context.Context, name, what, addr string, open func(addr string) (*sqlstore.Database, error), space string) error {
	_, err := b.addServed(ctx, name, []string{addr}, func(at []string, relayed bool) (session.Store, error) {
		db, err := open(at[0])
		if err != nil {
			return nil, err
		}
		b.defers(func() { _ = db.Close() })
		return sqlstore.Open(ctx, db, &sqlstore.Options{Prefix: fmt.Sprintf("b_%t_", relayed), Timeout: patience})
	})
	b.sizedSQL(name, what, func(int) (*sqlstore.Database, error) { return open(addr) }, space)
	return err
}

// sizedSQL asks with a query, into which the prefix of the tables goes, how much
// the sessions take.
func (b *bench) sizedSQL(name, what string, open func(size int) (*sqlstore.Database, error), space string) {
	var db *sqlstore.Database
	var prefix string
	b.sized = append(b.sized, sized{name: name, what: what, open: func(ctx context.Context, size int) (session.Store, func(), error) {
		var err error
		if db, err = open(size); err != nil {
			return nil, nil, err
		}
		prefix = fmt.Sprintf("s%d_", size)
		s, err := sqlstore.Open(ctx, db, &sqlstore.Options{Prefix: prefix, Timeout: patience})
		return s, func() { _ = db.Close() }, err
	}, used: func(ctx context.Context) (n int64, err error) {
		var is sql.NullInt64
		err = db.Hosts[0].DB.QueryRowContext(ctx, fmt.Sprintf(space, prefix)).Scan(&is)
		return is.Int64, err
	}})
}

// accepts waits until a database takes sessions: it listens before it does.
func accepts(ctx context.Context, open func(addr string) (*sqlstore.Database, error), addr string) error {
	db, err := open(addr)
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		if err = db.Hosts[0].DB.PingContext(ctx); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w", addr, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// owned makes a directory for a server that does not run as root, and returns
// what its command lines begin with.
func (b *bench) owned(name string) (dir string, as []string, err error) {
	dir = filepath.Join(b.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil || os.Getuid() != 0 {
		return dir, nil, err
	}
	setpriv, err := peer.Find("setpriv")
	if err != nil {
		return "", nil, err
	}
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return "", nil, err
		}
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2, os.Chown(dir, uid, gid)); err != nil {
		return "", nil, err
	}
	return dir, []string{setpriv, "--reuid=" + u.Uid, "--regid=" + u.Gid, "--clear-groups"}, nil
}

func runTool(ctx context.Context, dir string, command []string) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...) //nolint:gosec // the bench's own
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w: %s", command, err, out)
	}
	return nil
}

// endGently lets a database end by itself: killed, it may leave shared memory
// behind.
func endGently(p *peer.Process, sig os.Signal) {
	_ = p.Signal(sig)
	select {
	case <-p.Done():
	case <-time.After(10 * time.Second):
	}
	p.Stop()
}
