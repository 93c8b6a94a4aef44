// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package route_test

import (
	"fmt"
	"testing"

	"github.com/belay-ha/belay/server/internal/gateway/route"
)

func TestFind(t *testing.T) {
	t.Parallel()
	patterns := []route.Pattern{
		0: {},
		1: {Path: "/static/"},
		2: {Host: "shop.example.com"},
		3: {Host: "shop.example.com", Path: "/api"},
		4: {Host: "shop.example.com", Path: "/api/v2"},
		5: {Host: "*.example.com"},
		6: {Host: "*.eu.example.com", Path: "/x"},
		7: {Host: "[::1]"},
	}
	table := route.New(patterns)
	for _, tt := range []struct {
		host, path string
		want       int
	}{
		{"other.org", "/", 0},
		{"other.org", "/staticky", 0},
		{"other.org", "/static", 1},
		{"other.org", "/static/a.css", 1},
		{"", "*", 0},
		{"shop.example.com", "/", 2},
		{"shop.example.com", "/apis", 2},
		{"shop.example.com", "/api", 3},
		{"shop.example.com:8080", "/api/cart", 3},
		{"SHOP.Example.com.", "/api/v2", 4},
		{"shop.example.com", "/static/a.css", 2}, // the host comes before the path
		{"a.b.example.com", "/", 5},
		{"example.com", "/", 0},
		{"shop.eu.example.com", "/x/y", 6},
		{"shop.eu.example.com", "/y", 5},
		{"[::1]:80", "/", 7},
		{"[::1]", "/", 7},
	} {
		if got, ok := table.Find(tt.host, tt.path); !ok || got != tt.want {
			t.Errorf("%s%s goes to %d %v, want %d (%v)", tt.host, tt.path, got, ok, tt.want, patterns[tt.want])
		}
	}
}

func TestNoRoute(t *testing.T) {
	t.Parallel()
	table := route.New([]route.Pattern{{Host: "a.example.com"}, {Host: "b.example.com", Path: "/b"}})
	for _, host := range []string{"c.example.com", "", "b.example.com"} {
		if got, ok := table.Find(host, "/"); ok {
			t.Error(host, "goes to", got)
		}
	}
}

func FuzzFind(f *testing.F) {
	f.Add("shop.example.com:80", "/api")
	f.Add("[::1]:80", "//")
	table := route.New([]route.Pattern{{}, {Host: "*.b"}, {Host: "[::1]", Path: "/x"}})
	f.Fuzz(func(t *testing.T, host, path string) {
		if _, ok := table.Find(host, path); !ok {
			t.Error("a route for everything did not match")
		}
	})
}

func ExampleTable() {
	patterns := []route.Pattern{{Host: "shop.example.com", Path: "/api"}, {}}
	table := route.New(patterns)
	for _, path := range []string{"/api/cart", "/apis"} {
		i, _ := table.Find("shop.example.com:8080", path)
		fmt.Println(path, patterns[i])
	}
	// Output:
	// /api/cart shop.example.com/api
	// /apis */
}
