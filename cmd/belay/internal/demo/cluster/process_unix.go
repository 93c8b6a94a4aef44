// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix && !linux

package cluster

import "syscall"

// sysProcAttr puts the child into a group of its own, so that ctrl-C reaches
// only its parent. Only Linux can kill it when its parent is killed.
func sysProcAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
