// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// decoder walks the syntax tree instead of unmarshalling it: that way every
// value is known with its place, and one mistake does not hide the next.
type decoder struct {
	path string
	errs []*Error
}

func (d *decoder) fail(n ast.Node, format string, args ...any) {
	pos := n.GetToken().Position
	d.errs = append(d.errs, &Error{d.path, pos.Line, pos.Column, fmt.Sprintf(format, args...)})
}

func (d *decoder) err() error {
	slices.SortStableFunc(d.errs, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
	list := make([]error, len(d.errs))
	for i, e := range d.errs {
		list[i] = e
	}
	return errors.Join(list...)
}

// root parses the text. A file that is not YAML has only its first mistake reported.
func (d *decoder) root(text []byte) ast.Node {
	whole := func(msg string) ast.Node {
		d.errs = append(d.errs, &Error{Path: d.path, Msg: msg})
		return nil
	}
	file, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
	var syntax yaml.Error
	switch {
	case errors.As(err, &syntax) && syntax.GetToken() != nil:
		pos := syntax.GetToken().Position
		d.errs = append(d.errs, &Error{d.path, pos.Line, pos.Column, "not YAML: " + syntax.GetMessage() + "; check the indentation and the quotes around here"})
		return nil
	case err != nil:
		return whole("not YAML: " + err.Error())
	}
	var body ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if body != nil {
			d.fail(doc.Body, "a second document; keep one, without a line of ---")
			continue
		}
		body = doc.Body
	}
	if body == nil || body.Type() == ast.CommentType {
		return whole("the file is empty; write listeners and pools")
	}
	return body
}

// object is a mapping that is being read. A nil object is one that is missing or
// of the wrong type: it has been reported, and yields only defaults.
type object struct {
	d      *decoder
	at     ast.Node // what to point at when a key is missing
	name   string   // dotted, for messages; empty at the root
	values map[string]entry
}

type entry struct{ key, value ast.Node }

// object reads n as a mapping with these keys; none given means that keys are
// names, which the caller checks.
func (d *decoder) object(n, at ast.Node, name string, known ...string) *object {
	var pairs []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		pairs = n.Values
		if at == ast.Node(n) && !n.IsFlowStyle && len(pairs) > 0 {
			at = pairs[0].Key // the token of a block is its first colon
		}
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
		if at == ast.Node(n) {
			at = n.Key
		}
	default:
		d.fail(n, "%s is %s; write keys and values", title(name), kind(n))
		return nil
	}
	o := &object{d, at, name, make(map[string]entry)}
	for _, p := range pairs {
		key, ok := keyText(p.Key)
		switch {
		case !ok:
			d.fail(p.Key, "this key is %s; write plain text, anchors and merges are not supported", kind(p.Key))
		case len(known) > 0 && !slices.Contains(known, key):
			d.fail(p.Key, "unknown key %q in %s; known are %s", key, title(name), strings.Join(known, ", "))
		default:
			if first, twice := o.values[key]; twice {
				d.fail(p.Key, "key %q a second time, first in line %d; keep one", o.dotted(key), first.key.GetToken().Position.Line)
				continue
			}
			o.values[key] = entry{p.Key, p.Value}
		}
	}
	return o
}

func keyText(n ast.Node) (string, bool) {
	s, ok := n.(*ast.StringNode)
	if !ok {
		return "", false
	}
	return s.Value, true
}

func title(name string) string {
	if name == "" {
		return "the file"
	}
	return name
}

// kind names the type of a node for people.
func kind(n ast.Node) string {
	switch n.(type) {
	case *ast.NullNode:
		return "empty"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a group of keys"
	case *ast.SequenceNode:
		return "a list"
	case *ast.IntegerNode, *ast.FloatNode:
		return "a number"
	case *ast.BoolNode:
		return "true or false"
	case *ast.StringNode, *ast.LiteralNode:
		return "text"
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		return "an anchor"
	}
	return "something else"
}

func (o *object) dotted(key string) string {
	if o.name == "" {
		return key
	}
	return o.name + "." + key
}

// keys returns the keys that are there, sorted by place in the file.
func (o *object) keys() []string {
	if o == nil {
		return nil
	}
	return slices.SortedFunc(maps.Keys(o.values), func(a, b string) int {
		pa, pb := o.values[a].key.GetToken().Position, o.values[b].key.GetToken().Position
		return cmp.Or(cmp.Compare(pa.Line, pb.Line), cmp.Compare(pa.Column, pb.Column))
	})
}

func (o *object) get(key string) (ast.Node, bool) {
	if o == nil {
		return nil, false
	}
	e, ok := o.values[key]
	return e.value, ok
}

// need is get for a key that must be there.
func (o *object) need(key, hint string) (ast.Node, bool) {
	n, ok := o.get(key)
	if !ok && o != nil {
		o.d.fail(o.at, "%s is missing; %s", o.dotted(key), hint)
	}
	return n, ok
}

func (o *object) child(key string, known ...string) *object {
	n, ok := o.get(key)
	if !ok {
		return nil
	}
	return o.d.object(n, o.values[key].key, o.dotted(key), known...)
}

// list returns the elements of a list; a missing key is an empty one.
func (o *object) list(key string) []ast.Node {
	n, ok := o.get(key)
	if !ok {
		return nil
	}
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		o.d.fail(n, "%s is %s; write a list, each element after a dash", o.dotted(key), kind(n))
		return nil
	}
	return seq.Values
}

// text reads a string; it reports false if there is none that is any use.
func (o *object) text(key string) (string, ast.Node, bool) {
	n, ok := o.get(key)
	if !ok {
		return "", nil, false
	}
	s, ok := textOf(n)
	if !ok || s == "" {
		o.d.fail(n, "%s is %s; write text, in quotes if need be", o.dotted(key), emptyOr(kind(n), ok))
		return "", n, false
	}
	return s, n, true
}

func emptyOr(kind string, empty bool) string {
	if empty {
		return "empty"
	}
	return kind
}

func textOf(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	}
	return "", false
}

func (o *object) duration(key string, def, least time.Duration) time.Duration {
	n, ok := o.get(key)
	if !ok {
		return def
	}
	s, ok := textOf(n)
	if !ok {
		o.d.fail(n, "%s is %s; write a time with its unit, like 2s or 250ms", o.dotted(key), kind(n))
		return def
	}
	v, err := time.ParseDuration(s)
	switch {
	case err != nil:
		o.d.fail(n, "%s: %q is not a time; write a number with its unit, like 2s or 250ms", o.dotted(key), s)
	case v < least:
		o.d.fail(n, "%s: %v is too short; write at least %v", o.dotted(key), v, least)
	case v > 24*time.Hour:
		o.d.fail(n, "%s: %v is too long; write at most 24h", o.dotted(key), v)
	default:
		return v
	}
	return def
}

func (o *object) count(key string, def, least, most int) int {
	n, ok := o.get(key)
	if !ok {
		return def
	}
	i, ok := n.(*ast.IntegerNode)
	if !ok {
		o.d.fail(n, "%s is %s; write a whole number from %d to %d", o.dotted(key), kind(n), least, most)
		return def
	}
	v, ok := i.Value.(uint64)
	if !ok || v < uint64(least) || v > uint64(most) {
		o.d.fail(n, "%s: %v does not work; write a whole number from %d to %d", o.dotted(key), i.Value, least, most)
		return def
	}
	return int(v)
}

func (o *object) boolean(key string) bool {
	n, ok := o.get(key)
	if !ok {
		return false
	}
	b, ok := n.(*ast.BoolNode)
	if !ok {
		o.d.fail(n, "%s is %s; write true or false", o.dotted(key), kind(n))
		return false
	}
	return b.Value
}
