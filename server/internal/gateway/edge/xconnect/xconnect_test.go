// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package xconnect

import "testing"

func TestWhatAnOperatorSaysStays(t *testing.T) {
	for said, want := range map[string]string{
		"":                              "http2xconnect=1",
		"http2debug=1":                  "http2debug=1,http2xconnect=1",
		"http2xconnect=0":               "http2xconnect=0",
		"http2debug=1,http2xconnect=0,": "http2debug=1,http2xconnect=0,",
	} {
		if got := with(said); got != want {
			t.Errorf("%q becomes %q, want %q", said, got, want)
		}
	}
}
