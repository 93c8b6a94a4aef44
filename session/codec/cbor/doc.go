// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package cbor encodes attributes as CBOR (RFC 8949): about as easy as JSON, and
// smaller. Use it when sessions are big or times and bytes are many:
//
//	m, err := session.New(store, &session.Options{Codec: cbor.Codec{}})
//
// Types made for JSON keep their names: `cbor` tags are used, else `json` tags.
// Equal values give equal bytes (core deterministic encoding), also for maps.
//
// It never decodes a value into a type that its key does not name: into an any
// go only nil, bool, numbers, strings, bytes, times, []any and map[string]any.
package cbor
