// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcachedstore_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memcachedstore"
)

// ExampleOpen shows what a program sees whose servers are not there: the
// addresses, never the password.
func ExampleOpen() {
	store, err := memcachedstore.Open(context.Background(), "memcached://me:secret@127.0.0.1:1", nil)
	if errors.Is(err, session.ErrUnavailable) {
		fmt.Println(err)
		return
	}
	defer store.Close()
	// Output: memcachedstore: open: session: store unavailable: memcache: stats: 127.0.0.1:1: not available: dial tcp 127.0.0.1:1: connect: connection refused
}
