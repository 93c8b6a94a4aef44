// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package server is what the belay binary is made of: it reads a configuration,
// builds the gateway and the admin API from it, and runs them until told to
// stop. It is the only place where the parts are wired together.
//
// Nothing runs before Run, and nothing is left when Run returns.
package server
