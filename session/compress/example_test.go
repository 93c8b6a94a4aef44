// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package compress_test

import (
	"fmt"
	"strings"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/compress"
	"github.com/belay-ha/belay/session/memstore"
)

func ExampleNew() {
	codec, err := compress.New(session.JSON{}, &compress.Options{Threshold: 200, Algorithm: compress.S2})
	if err != nil {
		fmt.Println(err)
		return
	}
	short, _ := codec.Marshal("a short text stays as it is")
	fmt.Printf("%s\n", short)

	long, _ := codec.Marshal(strings.Repeat("a long text ", 100))
	fmt.Println(len(long) < 100)

	var text string
	err = codec.Unmarshal(long, &text)
	fmt.Println(len(text), err)

	store, err := memstore.New(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = session.New(store, &session.Options{Codec: codec})
	fmt.Println(err)
	// Output:
	// "a short text stays as it is"
	// true
	// 1200 <nil>
	// <nil>
}
