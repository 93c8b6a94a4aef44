// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	goyaml "github.com/goccy/go-yaml/ast"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func updating() bool { return flag.Lookup("update").Value.String() == "true" }

// comments are those of the fields of the tree, by "Type.Field", on one line.
func comments(t *testing.T) map[string]string {
	t.Helper()
	found := make(map[string]string)
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if s, ok := spec.Type.(*ast.StructType); ok {
				for _, field := range s.Fields.List {
					for _, name := range field.Names {
						found[spec.Name.Name+"."+name.Name] = strings.Join(strings.Fields(field.Doc.Text()), " ")
					}
				}
			}
			return true
		})
	}
	return found
}

// walk calls f for every setting of the tree with its name in the reference.
func walk(v reflect.Type, name string, f func(name string, of reflect.Type, s setting)) {
	for _, s := range settings(v) {
		field := v.Field(s.i)
		at := dotted(name, s.key)
		f(at, v, s)
		in := field.Type
		switch {
		case s.tag.Get("named") != "":
			at += ".P"
		case in.Kind() == reflect.Slice:
			at += "[]"
		}
		for in.Kind() == reflect.Pointer || in.Kind() == reflect.Slice {
			in = in.Elem()
		}
		if in.Kind() == reflect.Struct && in != prefixType {
			walk(in, at, f)
		}
	}
}

func unit(t reflect.Type, s setting) string {
	switch {
	case t == timeType:
		return "time"
	case t == sizeType:
		return "size"
	case t == prefixType:
		return "network"
	}
	switch t.Kind() {
	case reflect.Int, reflect.Float64:
		if u := s.tag.Get("unit"); u != "" {
			return u
		}
		return "number"
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		if one := s.tag.Get("one"); one != "" {
			return "one of `" + strings.ReplaceAll(one, "|", "`, `") + "`"
		}
		return "text"
	case reflect.Pointer, reflect.Struct:
		return "keys"
	case reflect.Slice:
		if s.tag.Get("named") != "" {
			return "keys, by name"
		}
		return "list"
	case reflect.Map:
		return "keys and values"
	}
	return t.String()
}

// TestReference keeps the table of settings in docs/gateway.md as the tree is,
// and holds every example against the decoder.
func TestReference(t *testing.T) {
	said := comments(t)
	var table strings.Builder
	table.WriteString("| key | what to write | default | example | meaning |\n|---|---|---|---|---|\n")
	walk(reflect.TypeFor[Config](), "", func(name string, of reflect.Type, s setting) {
		field := of.Field(s.i)
		comment := said[of.Name()+"."+field.Name]
		if comment == "" {
			t.Errorf("%s: no comment says what it means", name)
		}
		def, example := s.tag.Get("default"), s.tag.Get("example")
		switch {
		case def != "":
			def = "`" + def + "`"
		case s.tag.Get("need") != "":
			def = "required"
		case field.Type.Kind() == reflect.Struct:
			def = "those below"
		default:
			def = "–"
		}
		what := unit(field.Type, s)
		if example != "" {
			if err := try(field, s, example); err != nil {
				t.Errorf("%s: the example %s: %v", name, example, err)
			}
			example = "`" + example + "`"
		} else if example = "–"; !strings.HasPrefix(what, "keys") && what != "list" {
			t.Errorf("%s has no example", name)
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s | %s |\n", name, what, def, example, comment)
	})
	const file = "../../../docs/gateway.md"
	const begin, end = "<!-- settings -->\n", "<!-- end of settings -->"
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(page), begin)
	have, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatal("docs/gateway.md has no place for the settings")
	}
	if updating() {
		if err := os.WriteFile(file, []byte(before+begin+table.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if have != table.String() {
		t.Error("the settings in docs/gateway.md are not those of the code; run this test with -update")
	}
}

// try decodes an example as the only key of a file.
func try(field reflect.StructField, s setting, example string) error {
	d := &decoder{path: "example", places: map[string]goyaml.Node{}, marks: map[string]goyaml.Node{}, bad: map[string]bool{}}
	holder := reflect.New(reflect.StructOf([]reflect.StructField{{Name: "X", Type: field.Type, Tag: s.tag}})).Elem()
	n := d.root([]byte(s.key + ": " + example))
	if n != nil {
		d.structure(n, n, "", holder)
	}
	if len(d.errs) > 0 {
		return d.err()
	}
	return nil
}

// TestSchema keeps the published JSON schema as the tree is.
func TestSchema(t *testing.T) {
	said := comments(t)
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	root := schemaOf(reflect.TypeFor[Config](), "", said)
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "belay.yaml"
	if err := enc.Encode(root); err != nil {
		t.Fatal(err)
	}
	if updating() {
		if err := os.WriteFile("belay.schema.json", out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if !bytes.Equal(out.Bytes(), Schema()) {
		t.Error("belay.schema.json is not that of the code; run this test with -update")
	}
}

func schemaOf(typ reflect.Type, tag reflect.StructTag, said map[string]string) map[string]any {
	switch {
	case typ == timeType:
		return map[string]any{"type": "string", "pattern": `^[-+]?(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))+$`}
	case typ == sizeType:
		return map[string]any{"type": []string{"string", "integer"}}
	case typ == prefixType:
		return map[string]any{"type": "string"}
	}
	switch typ.Kind() {
	case reflect.Pointer:
		return schemaOf(typ.Elem(), tag, said)
	case reflect.Slice:
		if tag.Get("named") != "" {
			return map[string]any{"type": "object", "additionalProperties": schemaOf(typ.Elem(), "", said), "minProperties": 1}
		}
		s := map[string]any{"type": "array", "items": schemaOf(typ.Elem(), tag, said)}
		if tag.Get("need") != "" {
			s["minItems"] = 1
		}
		return s
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schemaOf(typ.Elem(), tag, said)}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Float64:
		s := map[string]any{"type": map[reflect.Kind]string{reflect.Int: "integer", reflect.Float64: "number"}[typ.Kind()]}
		for _, b := range []struct{ tag, key string }{{"min", "minimum"}, {"max", "maximum"}} {
			if v := tag.Get(b.tag); v != "" {
				s[b.key] = json.Number(v)
			}
		}
		return s
	case reflect.String:
		if one := tag.Get("one"); one != "" {
			return map[string]any{"type": "string", "enum": strings.Split(one, "|")}
		}
		return map[string]any{"type": "string", "minLength": 1}
	}
	properties, required := map[string]any{}, []string{}
	for _, s := range settings(typ) {
		f := typ.Field(s.i)
		p := schemaOf(f.Type, s.tag, said)
		p["description"] = said[typ.Name()+"."+f.Name]
		if def := s.tag.Get("default"); def != "" {
			p["default"] = literal(def)
		}
		properties[s.key] = p
		if s.tag.Get("need") != "" {
			required = append(required, s.key)
		}
	}
	s := map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

func literal(s string) any {
	if b, err := strconv.ParseBool(s); err == nil && len(s) > 1 {
		return b
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		return f
	}
	return s
}

// TestSchemaAgreesWithTheDecoder: what loads has the form of the schema, and a
// key that neither knows has not.
func TestSchemaAgreesWithTheDecoder(t *testing.T) {
	c := jsonschema.NewCompiler()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err == nil {
		err = c.AddResource("belay.json", doc)
	}
	if err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("belay.json")
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob("testdata/*.txtar")
	good := 0
	for _, file := range files {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if ar.Files[1].Name != "config" {
			continue
		}
		good++
		for _, text := range [][]byte{ar.Files[0].Data, ar.Files[1].Data} {
			var v any
			if err := yaml.Unmarshal(text, &v); err != nil {
				t.Fatal(file, err)
			}
			b, err := json.Marshal(v)
			if err != nil {
				t.Fatal(file, err)
			}
			inst, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
			if err != nil {
				t.Fatal(file, err)
			}
			if err := schema.Validate(inst); err != nil {
				t.Errorf("%s: %v", file, err)
				continue
			}
			inst.(map[string]any)["colour"] = "blue"
			if schema.Validate(inst) == nil {
				t.Errorf("%s: the schema takes an unknown key", file)
			}
		}
	}
	if good < 3 {
		t.Error("only", good, "good files")
	}
}
