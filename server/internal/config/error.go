// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package config

import "fmt"

// Error is one mistake in a file. Line and Col count from 1; both are 0 if the
// file as a whole is meant.
type Error struct {
	Path string `json:"path"`
	Line int    `json:"line"`
	Col  int    `json:"col"`
	Msg  string `json:"msg"` // what is wrong; what to do
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Path + ": " + e.Msg
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.Path, e.Line, e.Col, e.Msg)
}

// Errors returns the mistakes in an error from Load or Parse, in the order of the
// file. Nil: it is another error.
func Errors(err error) []*Error {
	if e, ok := err.(*Error); ok {
		return []*Error{e}
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil
	}
	var list []*Error
	for _, err := range joined.Unwrap() {
		list = append(list, Errors(err)...)
	}
	return list
}
