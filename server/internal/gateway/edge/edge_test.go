// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package edge_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway/edge"
)

func TestListenSaysWhatToChange(t *testing.T) {
	ln, err := edge.Listen(t.Context(), "listeners[0].address", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for address, want := range map[string]string{
		ln.Addr().String(): "in use",
		"192.0.2.77:1":     "does not have that address",
	} {
		_, err := edge.Listen(t.Context(), "listeners[1].address", address)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "listeners[1].address") || !strings.Contains(err.Error(), address) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// TestAmbiguousRequestsAreRefused sends what could be read in two ways.
func TestAmbiguousRequestsAreRefused(t *testing.T) {
	ln, err := edge.Listen(t.Context(), "listeners[0].address", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	s := edge.New(edge.Options{
		Logger: slog.New(slog.DiscardHandler), Grace: time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }),
	})
	go func() { done <- s.Run(ctx, ln) }()
	for name, tc := range map[string]struct {
		text   string
		status int
	}{
		"fine":                  {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 200},
		"space_before_colon":    {"GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n", 400},
		"obsolete_folding":      {"GET / HTTP/1.1\r\nHost: x\r\n A: b\r\n\r\n", 400},
		"two_lengths":           {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400},
		"negative_length":       {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400},
		"unknown_coding":        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400},
		"two_hosts":             {"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400},
		"no_host":               {"GET / HTTP/1.1\r\n\r\n", 400},
		"control_byte_in_value": {"GET / HTTP/1.1\r\nHost: x\r\nA: b\x01\r\n\r\n", 400},
		"head_too_large":        {"GET / HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 80<<10) + "\r\n\r\n", 431},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			io.WriteString(c, tc.text)
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil || resp.StatusCode != tc.status || tc.status >= 400 && !resp.Close {
				t.Errorf("%v %v, want %d and the connection closed", resp, err, tc.status)
			}
		})
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
