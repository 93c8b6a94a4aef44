// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package bridge is what the adapters in session/compat share: store calls with a
// time limit and a name, and the three-way merge of values in maps.
//
// It knows nothing of the libraries whose interfaces the adapters have.
package bridge
