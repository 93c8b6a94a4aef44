// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"bytes"
	"slices"
)

// op is one recorded change to one attribute. Ops are applied in order to the
// record that was loaded, and again to a newer one when the commit meets a
// conflict, so that requests that change different things never lose each
// other's change.
type op struct {
	name    string
	value   []byte // the result when last applied
	present bool   // false: the attribute is removed
	update  func(raw []byte, ok bool) ([]byte, error)
	from    []byte // what update was last applied to
	had     bool
	merge   mergeFunc
	server  bool // the attribute never leaves the server (with a Carrier)
}

type mergeFunc func(base, mine, theirs []byte) ([]byte, error)

// patch is what one request wants to change. A nil one is empty.
type patch struct {
	ops  []op
	once []OnceKey
	// renew asks for a new token; nil: none.
	renew *renewal
	// forgetPrev says that the new token has been used.
	forgetPrev bool
	// keep stores the session even if nothing is in it.
	keep bool
}

func (p *patch) empty() bool {
	return p == nil || len(p.ops) == 0 && len(p.once) == 0 && p.renew == nil && !p.forgetPrev && !p.keep
}

// renewal is the request for a new token; nil: there is none.
func (p *patch) renewal() *renewal {
	if p == nil {
		return nil
	}
	return p.renew
}

func (p *patch) hasOnce(k OnceKey) bool { return p != nil && slices.Contains(p.once, k) }

// lookup returns the value of a name as the patch leaves it; found is false if
// the patch does not mention it.
func (p *patch) lookup(name string) (value []byte, present, found bool) {
	if p == nil {
		return nil, false, false
	}
	for i := len(p.ops) - 1; i >= 0; i-- {
		if o := &p.ops[i]; o.name == name {
			return o.value, o.present, true
		}
	}
	return nil, false, false
}

// add records a change. A plain change replaces earlier ones to the same name.
func (p *patch) add(o op) {
	if o.update == nil {
		p.ops = slices.DeleteFunc(p.ops, func(x op) bool { return x.name == o.name })
	}
	p.ops = append(p.ops, o)
}

// apply returns what attrs become. base are the attributes that the request
// loaded; when attrs are newer, merges see all three sides.
func (p *patch) apply(base, attrs Attrs) (Attrs, error) {
	for _, o := range p.ops {
		switch theirs, ok := attrs.Get(o.name); {
		case o.update != nil:
			v := o.value
			if ok != o.had || !bytes.Equal(theirs, o.from) {
				var err error
				if v, err = o.update(theirs, ok); err != nil {
					return nil, err
				}
			}
			attrs = attrs.With(o.name, v)
		case !o.present:
			attrs = attrs.Without(o.name)
		case o.merge != nil:
			was, had := base.Get(o.name)
			if had == ok && bytes.Equal(was, theirs) {
				attrs = attrs.With(o.name, o.value)
				break
			}
			v, err := o.merge(was, o.value, theirs)
			if err != nil {
				return nil, err
			}
			attrs = attrs.With(o.name, v)
		default:
			attrs = attrs.With(o.name, o.value)
		}
	}
	return attrs, nil
}

// then is p followed by what was recorded after it. p is not to be used any more.
func (p *patch) then(later *patch) *patch {
	if later == nil {
		return p
	}
	for _, o := range later.ops {
		p.add(o)
	}
	p.once = append(p.once, later.once...)
	if later.renew != nil {
		p.renew = later.renew
	}
	p.forgetPrev = p.forgetPrev || later.forgetPrev
	p.keep = p.keep || later.keep
	return p
}
