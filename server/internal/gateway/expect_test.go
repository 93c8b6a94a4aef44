// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/belay-ha/belay/server/internal/gateway"
)

// A client that asks before it sends a body is answered by the gateway, and the
// server is asked nothing: the body is at hand, or on its way.
func TestExpectIsAnsweredByTheGateway(t *testing.T) {
	run(t, 1, func(c *gateway.Config, apps []*app) {
		apps[0].handler = echo
		c.Routes[0].MaxBody = 100 << 10
	}, func(w *world) {
		for _, size := range []int{5, 80 << 10} { // kept, and passed on as it comes
			c, br := w.raw("POST /x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: " + strconv.Itoa(size) + "\r\n\r\n")
			first, err := http.ReadResponse(br, nil)
			if err != nil || first.StatusCode != http.StatusContinue {
				w.Fatal(first, err)
			}
			io.WriteString(c, strings.Repeat("x", size))
			resp, err := http.ReadResponse(br, nil)
			if err != nil || resp.StatusCode != 200 {
				w.Fatal(resp, err)
			}
			b, _ := io.ReadAll(resp.Body)
			if got := field(string(b), "Expect"); got != "" || field(string(b), "Content-Length") != strconv.Itoa(size) {
				w.Errorf("the server was asked %q: %s", got, b[:min(len(b), 500)])
			}
			c.Close()
		}
		c, br := w.raw("POST /x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 200000\r\n\r\n")
		defer c.Close()
		if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != http.StatusRequestEntityTooLarge {
			w.Error("a body that is too long was asked for:", resp, err)
		}
	})
}
