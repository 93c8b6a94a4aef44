// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package proto_test

import (
	"fmt"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/belay-ha/belay/session/codec/proto"
)

func ExampleCodec() {
	c := proto.Codec{}
	data, err := c.Marshal(wrapperspb.String("hello"))
	fmt.Printf("%x %v\n", data, err)

	var got *wrapperspb.StringValue
	fmt.Println(c.Unmarshal(data, &got), got.GetValue())

	_, err = c.Marshal("hello")
	fmt.Println(err)
	// Output:
	// 0a0568656c6c6f <nil>
	// <nil> hello
	// proto: marshal string: not a pointer to a generated protobuf message; wrapperspb has messages for plain values
}
