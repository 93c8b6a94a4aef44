// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sealed

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	keySize   = 32
	keyIDSize = 4
)

// keyID names a key in what it has sealed. It is made from the key, so nobody
// has to number keys, and tells nothing about it.
type keyID [keyIDSize]byte

// key is one of the operator's keys, split by purpose.
type key struct {
	id     keyID
	values cipher.AEAD
	record []byte // of the HMAC over a record
	cookie cipher.AEAD
}

// ring is the operator's keys: the first seals, all open.
type ring []key

func newRing(secrets [][]byte) (ring, error) {
	var (
		r    ring
		errs []error
		seen = map[keyID]int{}
	)
	if len(secrets) == 0 {
		errs = append(errs, errors.New("no key: it needs at least one, of 32 random bytes"))
	}
	for i, secret := range secrets {
		if len(secret) != keySize {
			errs = append(errs, fmt.Errorf("key %d has %d bytes, want %d random ones", i+1, len(secret), keySize))
			continue
		}
		if [keySize]byte(secret) == [keySize]byte{} {
			errs = append(errs, fmt.Errorf("key %d is all zeros, want %d random bytes", i+1, keySize))
			continue
		}
		k, err := newKey(secret)
		if err != nil {
			errs = append(errs, fmt.Errorf("key %d: %w", i+1, err))
			continue
		}
		if first, ok := seen[k.id]; ok {
			errs = append(errs, fmt.Errorf("key %d is the same as key %d", i+1, first))
		}
		seen[k.id] = i + 1
		r = append(r, k)
	}
	return r, errors.Join(errs...)
}

func newKey(secret []byte) (key, error) {
	var errs []error
	derive := func(purpose string, size int) []byte {
		b, err := hkdf.Key(sha256.New, secret, nil, "belay sealed 1 "+purpose, size)
		errs = append(errs, err)
		return b
	}
	k := key{record: derive("record", sha256.Size)}
	copy(k.id[:], derive("key id", keyIDSize))
	for purpose, aead := range map[string]*cipher.AEAD{"value": &k.values, "cookie": &k.cookie} {
		a, err := chacha20poly1305.NewX(derive(purpose, chacha20poly1305.KeySize))
		*aead, errs = a, append(errs, err)
	}
	return k, errors.Join(errs...)
}

// find returns the key of that id; nil if it is not, or no longer, in the ring.
func (r ring) find(id []byte) *key {
	for i := range r {
		if string(r[i].id[:]) == string(id) {
			return &r[i]
		}
	}
	return nil
}
