// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package embedded_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/belay-ha/belay/session/natsstore/embedded"
)

// childArg makes the test binary a store process: childArg, directory, port.
const childArg = "child-store"

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

// child serves until it is killed, and prints its address when it is ready.
func child(dir, port string) error {
	n, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	srv, err := embedded.New(dir, &embedded.Options{Port: n})
	if err != nil {
		return err
	}
	go func() {
		<-srv.Ready()
		fmt.Println(srv.ClientURL())
	}()
	return srv.Run(context.Background())
}
