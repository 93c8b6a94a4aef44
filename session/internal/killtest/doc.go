// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package killtest kills a process that writes to a store, and then looks in the
// store for every write that the process was told was done. The test binary is that
// process, too: TestMain calls Write when the first argument is Child.
//
// It never decides what a store may lose: what was acknowledged is there.
package killtest
