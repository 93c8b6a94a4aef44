// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// decoder walks the syntax tree instead of unmarshalling it: that way every
// value is known with its place, and one mistake does not hide the next.
type decoder struct {
	path  string
	errs  []*Error
	lints []*Error
	// places are the values of the file by dotted name, marks their keys, and bad
	// those that had a mistake of their own.
	places, marks map[string]ast.Node
	bad           map[string]bool
}

func (d *decoder) fail(n ast.Node, format string, args ...any) {
	pos := n.GetToken().Position
	d.errs = append(d.errs, &Error{d.path, pos.Line, pos.Column, fmt.Sprintf(format, args...)})
}

func (d *decoder) err() error {
	sortByPlace(d.errs)
	list := make([]error, len(d.errs))
	for i, e := range d.errs {
		list[i] = e
	}
	return errors.Join(list...)
}

func sortByPlace(list []*Error) {
	slices.SortStableFunc(list, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
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

// object is a mapping that is being read.
type object struct {
	at    ast.Node // what to point at when a key is missing
	pairs []entry  // in the order of the file
}

type entry struct {
	key        string
	name       string // dotted
	node, data ast.Node
}

func (o *object) find(key string) (entry, bool) {
	i := slices.IndexFunc(o.pairs, func(e entry) bool { return e.key == key })
	if i < 0 {
		return entry{}, false
	}
	return o.pairs[i], true
}

// object reads n as a mapping with these keys; none given means that keys are
// names, which the caller checks. Nil: it is something else, and was reported.
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
	o := &object{at: at}
	for _, p := range pairs {
		key, ok := keyText(p.Key)
		switch {
		case !ok:
			d.fail(p.Key, "this key is %s; write plain text, anchors and merges are not supported", kind(p.Key))
		case len(known) > 0 && !slices.Contains(known, key):
			d.fail(p.Key, "unknown key %q in %s; known are %s", key, title(name), strings.Join(known, ", "))
		default:
			if first, twice := o.find(key); twice {
				d.fail(p.Key, "key %q a second time, first in line %d; keep one", dotted(name, key), first.node.GetToken().Position.Line)
				continue
			}
			o.pairs = append(o.pairs, entry{key, dotted(name, key), p.Key, p.Value})
		}
	}
	return o
}

func keyText(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.IntegerNode:
		return n.GetToken().Value, true
	}
	return "", false
}

func title(name string) string {
	if name == "" {
		return "the file"
	}
	return name
}

func dotted(name, key string) string {
	if name == "" {
		return key
	}
	return name + "." + key
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

func textOf(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	}
	return "", false
}
