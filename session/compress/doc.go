// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package compress is a codec around another one, which compresses values that
// are worth it: use it when sessions hold long texts, lists or carts.
//
//	codec, err := compress.New(session.JSON{}, nil)
//	m, err := session.New(store, &session.Options{Codec: codec})
//
// A value is compressed if its encoding has Threshold bytes or more and becomes
// at least an eighth shorter; else it is stored as the inner codec made it. So it
// can be switched on while sessions exist. To switch it off again, set Threshold
// to a negative number and keep the codec: it still reads what is compressed.
// Every process has to have it before one writes with it.
//
// Compressed lengths tell something about contents: do not put a secret and text
// that strangers choose into one attribute, if others can see lengths.
//
// It never lets a value become longer than MaxDecoded, whatever it claims.
package compress
