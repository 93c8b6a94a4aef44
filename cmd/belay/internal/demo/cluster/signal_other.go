// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package cluster

import "syscall"

// There is no freezing here, so there is no demo: see New.
const (
	sigKill = syscall.SIGKILL
	sigTerm = syscall.SIGTERM
	sigStop = syscall.SIGKILL
	sigCont = syscall.SIGTERM
)

const supported = false

func sysProcAttr() *syscall.SysProcAttr { return nil }
