// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package servertest

import (
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// A process that nobody has collected yet runs no more; one that sleeps does.
func TestStoppedKnowsTheDead(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	pid := cmd.Process.Pid
	if stopped(pid) {
		t.Error("it has only begun")
	}
	_ = cmd.Process.Signal(syscall.SIGKILL)
	for end := time.Now().Add(10 * time.Second); !stopped(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("killed, and said to run")
		}
	}
	_ = cmd.Wait()
}
