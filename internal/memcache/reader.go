// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcache

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxStats bounds the answer to one stats request.
const maxStats = 10_000

// read gives answers to calls until the connection ends.
func (c *conn) read() error {
	for {
		line, err := readLine(c.r)
		if err != nil {
			return err
		}
		k := c.head()
		if k == nil {
			return fmt.Errorf("%w, and nothing was asked", unexpected(line))
		}
		ended, err := c.hand(k, line)
		if ended {
			c.pop()
			k.done <- struct{}{}
		}
		if err != nil {
			return err
		}
	}
}

// hand gives a line to the call at the head. ended: the call is complete. An
// error ends the connection.
func (c *conn) hand(k *call, line []byte) (ended bool, err error) {
	a, err := parseAnswer(line, c.maxValue)
	if err != nil {
		return false, err
	}
	switch a.code {
	case codeError, codeClientError:
		// What follows may be the value, read as commands.
		return false, fmt.Errorf("%w: %s", ErrProtocol, describe(a))
	case codeServerError:
		k.err = serverError(k.op, a)
		return k.op != opMulti, nil // the no-op of an opMulti is answered too
	}
	switch k.op {
	case opMulti:
		return c.handMulti(k, a, line)
	case opStats:
		return k.handStat(a, line)
	case opVersion:
		if a.code != codeVersion {
			return false, unexpected(line)
		}
		k.result.answer = a
		return true, nil
	}
	if !expected(k.op, a.code) {
		return false, unexpected(line)
	}
	if a.flags&hasOpaque == 0 || a.opaque != k.seq {
		return false, errMixedUp(line)
	}
	k.result.answer = a
	if a.code == codeVA {
		if k.result.value, err = c.readValue(a.size, k); err != nil {
			return false, err
		}
	}
	return true, nil
}

// handMulti takes one of the values, which come in the order of the keys, or the end.
func (c *conn) handMulti(k *call, a answer, line []byte) (bool, error) {
	if a.code == codeMN {
		return true, nil
	}
	if a.code != codeVA && !(a.code == codeHD && k.bare) {
		return false, unexpected(line)
	}
	index := int(a.opaque - k.seq)
	last := -1
	if n := len(k.result.items); n > 0 {
		last = k.result.items[n-1].index
	}
	if a.flags&hasOpaque == 0 || a.opaque < k.seq || a.opaque-k.seq >= uint64(k.n) || index <= last {
		return false, errMixedUp(line)
	}
	var value []byte
	if a.code == codeVA {
		var err error
		if value, err = c.readValue(a.size, k); err != nil {
			return false, err
		}
	}
	k.result.items = append(k.result.items, found{index: index, answer: a, value: value})
	return false, nil
}

func (k *call) handStat(a answer, line []byte) (bool, error) {
	switch a.code {
	case codeEnd:
		return true, nil
	case codeStat:
		if k.result.stats == nil {
			k.result.stats = map[string]string{}
		}
		if len(k.result.stats) >= maxStats {
			return false, fmt.Errorf("%w: more than %d statistics", ErrProtocol, maxStats)
		}
		name, value, _ := strings.Cut(a.text, " ")
		k.result.stats[name] = value
		return false, nil
	}
	return false, unexpected(line)
}

// readValue reads a value and its line end; nothing is kept for a caller who has left.
func (c *conn) readValue(size int, k *call) ([]byte, error) {
	var value []byte
	if k.gone.Load() {
		if _, err := io.CopyN(io.Discard, c.r, int64(size)); err != nil {
			return nil, readError(err)
		}
	} else {
		value = make([]byte, size)
		if _, err := io.ReadFull(c.r, value); err != nil {
			return nil, readError(err)
		}
	}
	var end [2]byte
	if _, err := io.ReadFull(c.r, end[:]); err != nil {
		return nil, readError(err)
	}
	if end != [2]byte{'\r', '\n'} {
		return nil, fmt.Errorf("%w: a value longer than announced", ErrProtocol)
	}
	return value, nil
}

// readLine returns a line without its end, valid until the next read.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, fmt.Errorf("%w: a line of more than %d bytes", ErrProtocol, len(line))
	}
	if err != nil {
		return nil, readError(err)
	}
	text, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok {
		return nil, fmt.Errorf("%w: a line that does not end in CR LF", ErrProtocol)
	}
	return text, nil
}

func readError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("closed by the server")
	}
	return fmt.Errorf("read: %w", err)
}

// expected lists the answers that each command has.
func expected(o op, c code) bool {
	switch o {
	case opGet:
		return c == codeVA || c == codeEN
	case opTouch:
		return c == codeHD || c == codeEN
	case opSet:
		return c == codeHD || c == codeNS || c == codeEX || c == codeNF
	case opDelete:
		return c == codeHD || c == codeNF || c == codeEX
	}
	return false
}

func errMixedUp(line []byte) error {
	return fmt.Errorf("%w: to another request than the one it was due for", unexpected(line))
}

func describe(a answer) string {
	switch a.code {
	case codeError:
		return "ERROR " + short(a.text)
	case codeClientError:
		return "CLIENT_ERROR " + short(a.text)
	}
	return "SERVER_ERROR " + short(a.text)
}

// serverError is what a call gets that the server understood and could not do.
func serverError(o op, a answer) error {
	switch {
	case o == opSet && strings.Contains(a.text, "too large"):
		return fmt.Errorf("%w (%s); the entry that was there is gone", ErrTooLarge, describe(a))
	case o == opSet && strings.Contains(a.text, "out of memory storing"):
		return fmt.Errorf("%w (%s)", ErrFull, describe(a))
	case o == opSet || o == opDelete || o == opTouch:
		return fmt.Errorf("%w: %s", ErrUnknown, describe(a))
	}
	return fmt.Errorf("%w: %s", ErrUnavailable, describe(a))
}
