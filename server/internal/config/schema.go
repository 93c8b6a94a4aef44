// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package config

import _ "embed"

//go:embed belay.schema.json
var schema []byte

// Schema returns the JSON schema of a configuration file, for editors.
func Schema() []byte { return schema }
