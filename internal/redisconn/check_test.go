// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisconn

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
)

// Servers that are seldom at hand.
func TestCheckAsksWhatAServerIs(t *testing.T) {
	for name, tt := range map[string]struct{ answer, want string }{
		"good":             {bulk("redis_version:7.2.0\r\nrole:master\r\n"), ""},
		"too_old":          {bulk("redis_version:5.0.14\r\nrole:master\r\n"), "too old"},
		"may_not_be_asked": {"-NOPERM this user has no permissions to run the 'info' command\r\n", ""},
		"refuses":          {"-ERR out of order\r\n", "out of order"},
		"says_no_text":     {"*0\r\n", "redis fake"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := connect(t, pipe(func(conn net.Conn) {
					serve(conn, func(command string) string {
						if command == "INFO" {
							return tt.answer
						}
						return "+OK\r\n"
					})
				}))
				defer c.Close()
				c.name = "fake"
				err := c.check(t.Context())
				if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
			})
		})
	}
}

func bulk(text string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(text), text) }
