// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gob_test

import (
	"fmt"

	"github.com/belay-ha/belay/session/codec/gob"
)

func ExampleCodec() {
	type cart struct {
		SKU   string
		Count int
	}
	c := gob.Codec{}
	data, err := c.Marshal(cart{"mug", 2})
	fmt.Println(len(data) > 40, err) // the type is in it

	var got cart
	fmt.Println(c.Unmarshal(data, &got), got)

	_, err = c.Marshal(map[string]any{"sku": "mug"})
	fmt.Println(err)
	// Output:
	// true <nil>
	// <nil> {mug 2}
	// gob: marshal map[string]interface {}: interface {} is an interface: name a concrete type, or use another codec
}
