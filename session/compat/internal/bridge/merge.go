// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"maps"
	"reflect"
)

// ThreeWay is theirs with what changed from base to mine.
func ThreeWay[K comparable](base, mine, theirs map[K]any) map[K]any {
	out := maps.Clone(theirs)
	if out == nil {
		out = make(map[K]any)
	}
	for k, v := range mine {
		if old, ok := base[k]; !ok || !reflect.DeepEqual(old, v) {
			out[k] = v
		}
	}
	for k := range base {
		if _, ok := mine[k]; !ok {
			delete(out, k)
		}
	}
	return out
}
