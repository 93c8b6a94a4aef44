// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package cbor_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/codec/cbor"
	"github.com/belay-ha/belay/session/memstore"
)

func ExampleCodec() {
	c := cbor.Codec{}
	data, err := c.Marshal(map[string]int{"b": 2, "a": 1})
	fmt.Printf("%x %v\n", data, err)
	var m map[string]int
	fmt.Println(c.Unmarshal(data, &m), m)
	// Output:
	// a2616101616202 <nil>
	// <nil> map[a:1 b:2]
}

func ExampleCodec_options() {
	type profile struct {
		Name string `json:"name"`
		Age  int    `json:"age"`
	}
	me := session.NewKey[profile]("me")

	store, err := memstore.New(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	m, err := session.New(store, &session.Options{Codec: cbor.Codec{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		if err != nil {
			m.Error(w, r, err)
			return
		}
		me.Set(s, profile{"Zoë", 30})
		p, ok := me.Get(s)
		fmt.Println(p.Name, p.Age, ok)
	}))
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "https://example.com/", nil))
	// Output: Zoë 30 true
}
