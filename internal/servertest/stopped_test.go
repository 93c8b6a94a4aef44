// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package servertest

import (
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// A process that nobody has collected yet runs no more; one that sleeps does.
func TestStoppedKnowsTheDead(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	if stopped(pid) {
		t.Error("it has only begun")
	}
	_ = cmd.Process.Kill()
	// Until it is dead, without collecting it.
	if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if !stopped(pid) {
		t.Error("killed, and said to run")
	}
	_ = cmd.Wait()
}
