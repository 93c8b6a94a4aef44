// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package gob encodes attributes with encoding/gob. It is here for programs that
// have gob data or types that need it; for anything else JSON or CBOR is better:
//
//   - Each struct and each map carries a description of its type, some 20 to 100
//     bytes, which has to be understood anew for every value: reading takes about
//     seven times as long as with JSON.
//   - Equal values may give different bytes: the order of a map's keys is random,
//     and type numbers depend on what the process encoded before. What compares
//     encoded bytes then sees a change where there is none, and writes it.
//   - Types have to be concrete. An interface inside a value would let whoever
//     can write to the store choose which registered type is made of it, so the
//     codec refuses any, in both directions; it needs no gob.Register.
//   - Only Go reads it.
//
// It never decodes a value of a type that its key does not name.
package gob
