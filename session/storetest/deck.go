// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"math/rand/v2"
	"sync"
)

type callKind int

const (
	callLoad callKind = iota
	callCreate
	callUpdate
	callTouch
	callDelete
	callOnDead
	callKinds
)

// deck deals kinds of calls in random order, each before one comes a second
// time: a fault that lasts for a few calls meets every kind.
type deck struct {
	mu   sync.Mutex
	rng  *rand.Rand
	left []callKind
}

func (d *deck) draw() callKind {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.left) == 0 {
		for _, k := range d.rng.Perm(int(callKinds)) {
			d.left = append(d.left, callKind(k))
		}
	}
	k := d.left[0]
	d.left = d.left[1:]
	return k
}
