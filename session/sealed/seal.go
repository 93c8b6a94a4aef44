// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sealed

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/belay-ha/belay/session"
)

// A sealed value:
//
//	key id (4)  nonce (24)  ciphertext  tag (16)
//
// The seal of a record is an attribute of its own, with a name that no key of an
// application has:
//
//	version (1)  key id (4)  HMAC-SHA-256 (32)  CRC-32C of all before (4)
//
// Every version begins and ends so, so that a seal that a newer program made can
// be told from a damaged one.
const (
	sealName    = "\x00sealed"
	sealVersion = 1
	sealSize    = 1 + keyIDSize + 32 + 4

	nonceSize = chacha20poly1305.NonceSizeX
	tagSize   = chacha20poly1305.Overhead
	headSize  = keyIDSize + nonceSize
	overhead  = headSize + tagSize
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal returns what the inner store keeps instead of rec's attributes.
func (s *store) seal(id session.ID, rec *session.Record) (session.Attrs, error) {
	k := &s.ring[0]
	size := sealSize
	for _, a := range rec.Attrs {
		size += overhead + len(a.Value)
	}
	nonces := make([]byte, nonceSize*len(rec.Attrs))
	rand.Read(nonces) // never fails
	buf := make([]byte, 0, size)
	out := make(session.Attrs, 0, len(rec.Attrs)+1)
	aad := valueAAD(id)
	for _, a := range rec.Attrs {
		if a.Name == sealName {
			return nil, fmt.Errorf("the attribute name %q is taken by the seal", a.Name)
		}
		start := len(buf)
		nonce := nonces[:nonceSize]
		nonces = nonces[nonceSize:]
		buf = append(append(buf, k.id[:]...), nonce...)
		buf = k.values.Seal(buf, nonce, a.Value, append(aad, a.Name...))
		out = append(out, session.Attr{Name: a.Name, Value: buf[start:len(buf):len(buf)]})
	}
	start := len(buf)
	buf = append(append(buf, sealVersion), k.id[:]...)
	buf = append(buf, k.sum(id, rec, out)...)
	buf = binary.LittleEndian.AppendUint32(buf, crc32.Checksum(buf[start:], castagnoli))
	return out.With(sealName, buf[start:]), nil
}

// open verifies what the inner store returned, and returns the attributes that
// were sealed.
func (s *store) open(id session.ID, rec *session.Record) (session.Attrs, error) {
	seal, ok := rec.Attrs.Get(sealName)
	if !ok {
		if s.opts.AcceptPlain {
			return rec.Attrs, nil
		}
		return nil, corrupt("it has no seal")
	}
	k, sum, err := s.ring.parseSeal(seal)
	if err != nil {
		return nil, err
	}
	sealed := rec.Attrs.Without(sealName)
	size := 0
	for _, a := range sealed {
		if len(a.Value) < overhead {
			return nil, corrupt("a value is too short")
		}
		size += len(a.Value) - overhead
	}
	if !hmac.Equal(sum, k.sum(id, rec, sealed)) {
		return nil, corrupt("it does not agree with its seal")
	}
	buf := make([]byte, 0, size)
	aad := valueAAD(id)
	for i, a := range sealed { // ours: Without made a copy
		k := s.ring.find(a.Value[:keyIDSize])
		if k == nil {
			return nil, unknownKey(a.Value[:keyIDSize])
		}
		start := len(buf)
		buf, err = k.values.Open(buf, a.Value[keyIDSize:headSize], a.Value[headSize:], append(aad, a.Name...))
		if err != nil {
			return nil, corrupt("a value does not agree with its tag")
		}
		sealed[i].Value = buf[start:len(buf):len(buf)]
	}
	if len(sealed) == 0 {
		return nil, nil
	}
	return sealed, nil
}

func (r ring) parseSeal(seal []byte) (*key, []byte, error) {
	n := len(seal) - 4
	if n < 1 || crc32.Checksum(seal[:n], castagnoli) != binary.LittleEndian.Uint32(seal[n:]) {
		return nil, nil, corrupt("its seal is damaged")
	}
	if seal[0] != sealVersion {
		return nil, nil, fmt.Errorf("%w: seal version %d, this program knows %d", session.ErrNewer, seal[0], sealVersion)
	}
	if len(seal) != sealSize {
		return nil, nil, corrupt("its seal is damaged")
	}
	id := seal[1 : 1+keyIDSize]
	k := r.find(id)
	if k == nil {
		return nil, nil, unknownKey(id)
	}
	return k, seal[1+keyIDSize : n], nil
}

// valueAAD is what every value of a session is bound to; the attribute's name
// follows. Everything before that has a fixed length.
func valueAAD(id session.ID) []byte {
	aad := make([]byte, 0, 64)
	aad = append(append(aad, id.Generation), id.Hash[:]...)
	return append(aad, 0)
}

// sum is the HMAC over a record but for its expiry, and over whose record it is.
// Of the values it takes nonce and tag, which stand for the rest.
func (k *key) sum(id session.ID, rec *session.Record, sealed session.Attrs) []byte {
	b := make([]byte, 0, 256+len(sealed)*(overhead+32))
	appendID := func(id session.ID) { b = append(append(b, id.Generation), id.Hash[:]...) }
	appendID(id)
	b = binary.AppendUvarint(b, rec.Rev.Term)
	b = binary.AppendUvarint(b, rec.Rev.N)
	for _, t := range [...]time.Time{rec.Created, rec.Seen, rec.Ends, rec.Issued, rec.AuthTime} {
		ms := int64(0)
		if !t.IsZero() {
			ms = t.UnixMilli()
		}
		b = binary.AppendVarint(b, ms)
	}
	b = binary.AppendUvarint(b, uint64(len(rec.Owner)))
	b = append(b, rec.Owner...)
	appendID(rec.Prev)
	appendID(rec.Next)
	if rec.Follow {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(rec.Once)))
	for _, o := range rec.Once {
		b = append(b, o[:]...)
	}
	b = binary.AppendUvarint(b, uint64(len(sealed)))
	for _, a := range sealed {
		b = binary.AppendUvarint(b, uint64(len(a.Name)))
		b = append(b, a.Name...)
		b = append(b, a.Value[:headSize]...)
		b = append(b, a.Value[len(a.Value)-tagSize:]...)
	}
	h := hmac.New(sha256.New, k.record)
	h.Write(b)
	return h.Sum(nil)
}

func corrupt(what string) error { return fmt.Errorf("%w: %s", session.ErrCorrupt, what) }

func unknownKey(id []byte) error {
	return fmt.Errorf("%w: sealed by key %x, which is not in the list", session.ErrCorrupt, id)
}
