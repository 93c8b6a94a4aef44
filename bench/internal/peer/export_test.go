// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package peer

// StatFields is statFields.
var StatFields = statFields
