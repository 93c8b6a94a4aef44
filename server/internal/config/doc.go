// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package config reads the configuration file of the gateway into one tree of
// structs, with every default filled in, and reports every mistake at once, each
// with line and column.
//
// It opens the file and the key files that it names, nothing else; it starts and
// resolves nothing.
package config
