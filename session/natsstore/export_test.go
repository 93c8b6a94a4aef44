// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package natsstore

import "time"

// SetPatience sets how long an answer is waited for while the connection lasts.
func (s *Store) SetPatience(d time.Duration) { s.patience = d }
