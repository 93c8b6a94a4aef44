// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package near

// Settle does what otter else does soon after a call: it forgets what is too much.
func (c *Cache) Settle() { c.c.CleanUp() }
