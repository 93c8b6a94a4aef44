// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

// reason says why a case fails, and whether that hurts somebody.
type reason struct{ rfc, why, harm string }

// reasons are by the section and the name that h2spec has for the case; both are
// of RFC 7540, which RFC 9113 replaced.
var reasons = map[string]reason{
	"http2/3.5 Sends invalid connection preface": {
		"3.4",
		"nobody's: what is no preface is read as HTTP/1.1 where both are spoken, and answered with 400 in that language; then the connection is closed. The case takes the text of the answer for a frame",
		"none",
	},
	"http2/4.2 Sends a large size HEADERS frame that exceeds the SETTINGS_MAX_FRAME_SIZE": {
		"4.2",
		"the case's: it sends 17 KiB whatever SETTINGS_MAX_FRAME_SIZE says; net/http says 1 MiB, so the frame is allowed (go.dev/issue/25023)",
		"none",
	},
	"http2/6.5.3 Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE": {
		"6.5.3",
		"net/http's: the same setting twice in one frame ends the connection, where the later one should count",
		"none known: no client does that",
	},
	"http2/8.1.2.2 Sends a HEADERS frame that contains the connection-specific header field": {
		"8.2.2",
		"net/http's: the request is refused with status 400, where the stream should be reset; no server hears of it",
		"none",
	},
	"http2/8.1.2.2 Sends a HEADERS frame that contains the TE header field with any value other than \"trailers\"": {
		"8.2.2",
		"net/http's: as above",
		"none",
	},
}
