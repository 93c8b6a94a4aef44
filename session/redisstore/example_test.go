// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/redisstore"
)

// ExampleOpen shows what a program sees whose server is not there: the address,
// never the password.
func ExampleOpen() {
	store, err := redisstore.Open(context.Background(), "redis://me:secret@127.0.0.1:1/0", nil)
	if errors.Is(err, session.ErrUnavailable) {
		fmt.Println(err)
		return
	}
	defer store.Close()
	// Output: redisstore: session: store unavailable: redisconn: open: redis 127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused
}
