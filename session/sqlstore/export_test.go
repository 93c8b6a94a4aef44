// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore

import "context"

// Sweep does once what Run does all the time.
func (s *Store) Sweep(ctx context.Context) (int, error) { return s.sweep(ctx) }

// Primary is the server that takes writes.
func (s *Store) Primary(ctx context.Context) (string, error) {
	h, err := s.servers.primary(ctx)
	if err != nil {
		return "", err
	}
	return h.Name, nil
}
