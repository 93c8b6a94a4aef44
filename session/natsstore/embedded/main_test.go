// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package embedded_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/belay-ha/belay/session/natsstore/embedded"
)

// childArg makes the test binary a store process: childArg, directory, port, and
// for a peer its name, its address for peers and those of all peers.
const childArg = "child-store"

func TestMain(m *testing.M) {
	if len(os.Args) > 3 && os.Args[1] == childArg {
		if err := child(os.Args[2], os.Args[3], os.Args[4:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child serves until it is killed, and prints its address when it is ready.
func child(dir, port string, peer []string) error {
	n, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	opts := &embedded.Options{Port: n}
	if len(peer) == 3 {
		opts.Cluster = &embedded.Cluster{Name: peer[0], Listen: peer[1], Peers: strings.Split(peer[2], ",")}
	}
	srv, err := embedded.New(dir, opts)
	if err != nil {
		return err
	}
	go func() {
		<-srv.Ready()
		fmt.Println(srv.ClientURL())
	}()
	return srv.Run(context.Background())
}
