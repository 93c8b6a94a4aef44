// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package servertest

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// MariaDB is a MariaDB or MySQL server whose user "root" needs no password, with
// the database "belay". It does not wait for the disk, which a killed process does
// not lose: what it has written is with the kernel.
type MariaDB struct{ *Process }

// StartMariaDB starts a server. The arguments, like "--max-connections=20", are
// added to its command line and win over ours.
func StartMariaDB(t testing.TB, args ...string) MariaDB {
	t.Helper()
	return MariaDB{start(t, spec{
		name:  "mariadb",
		bins:  []string{"mariadbd", "/usr/sbin/mariadbd", "/usr/libexec/mariadbd"},
		users: []string{"mysql"},
		quit:  syscall.SIGKILL,
		prepare: func(p *Process) error {
			install := matches(filepath.Join(filepath.Dir(p.bin), "..", "bin", "mariadb-install-db"))
			if len(install) == 0 {
				return fmt.Errorf("there is no mariadb-install-db beside %s", p.bin)
			}
			if err := p.run(install[0], "--no-defaults", "--datadir="+data(p), "--tmpdir="+p.dir, "--skip-test-db",
				"--auth-root-authentication-method=normal", "--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=2"); err != nil {
				return err
			}
			return p.run("/bin/mkdir", filepath.Join(data(p), "belay"))
		},
		args: func(dir string, port int) []string {
			return append([]string{
				"--no-defaults", "--datadir=" + filepath.Join(dir, "data"), "--port=" + strconv.Itoa(port),
				"--bind-address=127.0.0.1", "--socket=" + filepath.Join(dir, "socket"), "--pid-file=" + filepath.Join(dir, "pid"),
				"--skip-name-resolve", "--tmpdir=" + dir, "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=8M",
				"--innodb-flush-log-at-trx-commit=2", "--sync-binlog=0", "--performance-schema=off",
			}, args...)
		},
		ready: greets,
	})}
}

// DSN is the address of a database for clients.
func (s MariaDB) DSN(database string) string { return "root@tcp(" + s.Addr() + ")/" + database }

// greets reads the first packet: a server that is starting does not listen yet.
func greets(addr string, left time.Time) error {
	conn, err := net.DialTimeout("tcp", addr, time.Until(left))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(left); err != nil {
		return err
	}
	head := make([]byte, 5)
	if _, err := io.ReadFull(conn, head); err != nil {
		return err
	}
	if head[4] != 10 {
		return fmt.Errorf("the server greets with %d instead of protocol version 10", head[4])
	}
	return nil
}
