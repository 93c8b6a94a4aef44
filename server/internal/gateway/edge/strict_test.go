// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"errors"
	"net"
	"testing"

	"github.com/belay-ha/belay/internal/framing"
)

// Only the whole preface of HTTP/2 ends the strict reading, in however many
// pieces it comes; its beginning alone does not.
func TestPrefaceInPieces(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		pieces []string
		http2  bool
	}{
		"whole":            {[]string{preface + "\r\nSM\r\n\r\n"}, true},
		"one_byte_first":   {[]string{"P", preface[1:] + "\r\nSM\r\n\r\n"}, true},
		"four_bytes_first": {[]string{"PRI ", "* HTTP/2.0", "\r\n\r\nSM\r\n\r\n"}, true},
		"its_beginning":    {[]string{"PRI ", "/ HTTP/1.1\r\nHost: x\nX: y\r\n\r\n"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, server := net.Pipe()
			defer server.Close()
			go func() {
				for _, p := range tt.pieces {
					if _, err := client.Write([]byte(p)); err != nil {
						return
					}
				}
				client.Close()
			}()
			c := &strict{Conn: server, rw: server, fresh: true, told: func(string) {}}
			var err error
			for b := make([]byte, 4096); err == nil; {
				_, err = c.Read(b)
			}
			if c.off != tt.http2 || errors.Is(err, framing.ErrMalformed) == tt.http2 {
				t.Errorf("HTTP/2: %v, %v", c.off, err)
			}
		})
	}
}
