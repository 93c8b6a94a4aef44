// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package servertest

import (
	bits "encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Postgres is a PostgreSQL server with one superuser, "belay", whom it trusts
// without a password, and the database "postgres". It does not wait for the disk,
// which a killed process does not lose: what it has written is with the kernel.
type Postgres struct{ *Process }

const postgresUser = "belay"

// StartPostgres starts a server. The settings, like "max_connections=20", win over
// ours.
func StartPostgres(t testing.TB, settings ...string) Postgres {
	t.Helper()
	return startPostgres(t, settings, func(p *Process) error {
		return p.run(tool(p, "initdb"), "-D", data(p), "-U", postgresUser, "-A", "trust", "-E", "UTF8",
			"--no-locale", "--no-sync", "--no-instructions")
	})
}

// Standby starts a server that follows this one by streaming replication, under
// a name that this one's synchronous_standby_names may list.
func (s Postgres) Standby(name string, settings ...string) Postgres {
	s.t.Helper()
	from := fmt.Sprintf("host=127.0.0.1 port=%d user=%s application_name=%s", s.port, postgresUser, name)
	return startPostgres(s.t, settings, func(p *Process) error {
		return p.run(tool(p, "pg_basebackup"), "-D", data(p), "-d", from, "-R", "-X", "stream", "-c", "fast", "--no-sync")
	})
}

// Promote makes a standby a primary, and returns when it is one.
func (s Postgres) Promote() {
	s.t.Helper()
	if err := s.run(tool(s.Process, "pg_ctl"), "promote", "-D", data(s.Process), "-w", "-t", "30"); err != nil {
		s.t.Fatalf("servertest: %v", err)
	}
}

// URL is the address of a database for clients.
func (s Postgres) URL(database string) string {
	return "postgres://" + postgresUser + "@" + s.Addr() + "/" + database + "?sslmode=disable"
}

func startPostgres(t testing.TB, settings []string, prepare func(p *Process) error) Postgres {
	t.Helper()
	return Postgres{start(t, spec{
		name:     "postgres",
		bins:     []string{"postgres", "/usr/lib/postgresql/*/bin/postgres", "/usr/pgsql-*/bin/postgres"},
		users:    []string{"postgres"},
		prepare:  prepare,
		children: true,
		quit:     syscall.SIGQUIT, // killed, it leaves shared memory behind
		args: func(dir string, port int) []string {
			args := []string{"-D", filepath.Join(dir, "data")}
			for _, s := range append([]string{
				"port=" + strconv.Itoa(port), "listen_addresses=127.0.0.1", "unix_socket_directories=",
				"fsync=off", "dynamic_shared_memory_type=mmap", "shared_buffers=16MB", "max_connections=60",
				"max_wal_senders=4", "max_replication_slots=4", "wal_level=replica", "autovacuum=off",
			}, settings...) {
				args = append(args, "-c", s)
			}
			return args
		},
		ready: answersStartup,
	})}
}

func data(p *Process) string { return filepath.Join(p.dir, "data") }

// tool is a program that is installed beside the server.
func tool(p *Process, name string) string {
	bin, err := filepath.EvalSymlinks(p.bin)
	if err != nil {
		bin = p.bin
	}
	return filepath.Join(filepath.Dir(bin), name)
}

// answersStartup logs in, far enough to see whether the server would serve.
func answersStartup(addr string, left time.Time) error {
	conn, err := net.DialTimeout("tcp", addr, time.Until(left))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(left); err != nil {
		return err
	}
	body := "\x00\x03\x00\x00user\x00" + postgresUser + "\x00database\x00postgres\x00\x00"
	if _, err := conn.Write(append(bits.BigEndian.AppendUint32(nil, uint32(4+len(body))), body...)); err != nil {
		return err
	}
	head := make([]byte, 5)
	if _, err := io.ReadFull(conn, head); err != nil {
		return err
	}
	if head[0] == 'R' {
		return nil
	}
	text := make([]byte, min(bits.BigEndian.Uint32(head[1:]), 1000)-4)
	_, _ = io.ReadFull(conn, text)
	return fmt.Errorf("answer to the startup message: %c %s", head[0], strings.ReplaceAll(string(text), "\x00", " "))
}
