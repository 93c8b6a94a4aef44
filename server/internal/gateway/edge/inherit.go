// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

// firstFile is the descriptor of the first socket that a process is given.
const firstFile = 3

// Inherit takes n sockets that the process was started with, from the descriptor
// that follows those for standard input and output. names are their addresses.
func Inherit(names []string) (map[string]net.Listener, error) {
	sockets := make(map[string]net.Listener, len(names))
	for i, name := range names {
		f := os.NewFile(uintptr(firstFile+i), name)
		if f == nil {
			return sockets, fmt.Errorf("edge: descriptor %d, for %s, is not open", firstFile+i, name)
		}
		ln, err := fromFile(f)
		f.Close()
		if err != nil {
			return sockets, err
		}
		sockets[name] = ln
	}
	return sockets, nil
}

// SystemdNames returns the addresses of the sockets that systemd passes to this
// process: systemd:NAME, by the FileDescriptorName of the unit. environ looks up
// a variable of the environment.
func SystemdNames(environ func(string) string, pid int) ([]string, error) {
	if environ("LISTEN_PID") != strconv.Itoa(pid) {
		return nil, nil // meant for another process, or for none
	}
	n, err := strconv.Atoi(environ("LISTEN_FDS"))
	if err != nil || n < 0 || n > 1024 {
		return nil, fmt.Errorf("edge: LISTEN_FDS is %q; systemd sets it to the number of sockets", environ("LISTEN_FDS"))
	}
	given := strings.Split(environ("LISTEN_FDNAMES"), ":")
	names := make([]string, n)
	for i := range names {
		name := "unknown"
		if i < len(given) && given[i] != "" {
			name = given[i]
		}
		names[i] = systemdPrefix + name
	}
	return names, nil
}
