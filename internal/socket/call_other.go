// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package socket

import "syscall"

// read, peek and write are the system calls, as Go makes them elsewhere.

func read(fd uintptr, p []byte) (int, syscall.Errno) { return number(syscall.Read(int(fd), p)) }

func peek(fd uintptr, p []byte) (int, syscall.Errno) {
	n, _, err := syscall.Recvfrom(int(fd), p, syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return number(n, err)
}

func write(fd uintptr, p []byte) (int, syscall.Errno) { return number(syscall.Write(int(fd), p)) }

func number(n int, err error) (int, syscall.Errno) {
	if err == nil {
		return n, 0
	}
	if e, ok := err.(syscall.Errno); ok {
		return 0, e
	}
	return 0, syscall.EIO
}
