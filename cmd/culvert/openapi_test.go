package main

import (
	"encoding"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"culvert/api"
	"culvert/config"
	"culvert/gateway"
)

// answerTypes are the bodies of the control socket's successes; nil is no JSON.
var answerTypes = map[string]any{
	"GET /v1/status":                                    gateway.Status{},
	"GET /v1/history":                                   gateway.History{},
	"GET /v1/explain":                                   gateway.Explanation{},
	"GET /v1/peers/{peer}/explain":                      gateway.Explanation{},
	"GET /v1/events":                                    event{},
	"GET /v1/metrics":                                   nil,
	"GET /v1/capture":                                   nil,
	"GET /v1/openapi.yaml":                              nil,
	"POST /v1/reload":                                   reloaded{},
	"POST /v1/drain":                                    done{},
	"POST /v1/peers/{peer}/connect":                     done{},
	"POST /v1/peers/{peer}/disconnect":                  done{},
	"POST /v1/peers/{peer}/rekey":                       done{},
	"POST /v1/peers/{peer}/tunnels/rekey":               done{},
	"POST /v1/peers/{peer}/tunnels/{tunnel}/connect":    done{},
	"POST /v1/peers/{peer}/tunnels/{tunnel}/disconnect": done{},
	"POST /v1/peers/{peer}/tunnels/{tunnel}/rekey":      done{},
}

// node is a piece of a description.
type node map[string]any

func (n node) at(path ...string) node {
	for _, key := range path {
		n, _ = n[key].(node)
	}
	return n
}

// resolve follows references.
func (n node) resolve(root node) node {
	for {
		ref, ok := n["$ref"].(string)
		if !ok {
			return n
		}
		n = root.at(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
	}
}

func openAPI(t *testing.T) (root node) {
	t.Helper()
	if err := yaml.Unmarshal(api.OpenAPI, &root); err != nil {
		t.Fatal(err)
	}
	return root
}

// TestOpenAPI holds api/openapi.yaml against what is handled, both ways: routes
// with their methods, the names in their paths, and every field of the answers.
func TestOpenAPI(t *testing.T) {
	root := openAPI(t)
	if v, _ := root["openapi"].(string); !strings.HasPrefix(v, "3.1.") {
		t.Errorf("version %q", v)
	}
	s, err := api.Listen(filepath.Join(t.TempDir(), "s.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	memoryDaemon(t).answer(s)
	described := map[string]node{}
	ids := map[string]bool{}
	for path, item := range root.at("paths") {
		for method, operation := range item.(node) {
			if method == "parameters" {
				continue
			}
			o := operation.(node)
			described[strings.ToUpper(method)+" "+path] = o
			id, _ := o["operationId"].(string)
			if id == "" || ids[id] || o["summary"] == nil || o.at("responses", "default") == nil {
				t.Errorf("%s %s: operation %q is not its own, or has no summary, or no failures", method, path, id)
			}
			ids[id] = true
		}
		var named []string
		for _, p := range anyList(item.(node)["parameters"]) {
			named = append(named, "{"+p.(node).resolve(root)["name"].(string)+"}")
		}
		for _, part := range strings.Split(path, "/") {
			if strings.HasPrefix(part, "{") != slices.Contains(named, part) {
				t.Errorf("%s: its parameters are %v", path, named)
			}
		}
	}
	handled := slices.Sorted(slices.Values(s.Patterns()))
	if of := slices.Sorted(maps.Keys(described)); !slices.Equal(of, handled) {
		t.Errorf("described are\n%s\nhandled are\n%s", strings.Join(of, "\n"), strings.Join(handled, "\n"))
	}
	if of := slices.Sorted(maps.Keys(answerTypes)); !slices.Equal(of, handled) {
		t.Errorf("this test knows\n%s\nhandled are\n%s", strings.Join(of, "\n"), strings.Join(handled, "\n"))
	}
	c := &comparison{t, root, map[string]bool{"Drain": true}}
	for pattern, answer := range answerTypes {
		content := described[pattern].at("responses", "200").resolve(root).at("content")
		for kind, media := range content {
			if answer == nil == strings.Contains(kind, "json") {
				t.Errorf("%s answers %s", pattern, kind)
			} else if answer != nil {
				c.same(pattern, media.(node).at("schema"), reflect.TypeOf(answer))
			}
		}
		if len(content) != 1 {
			t.Errorf("%s answers in %d ways", pattern, len(content))
		}
	}
	c.same("errors", root.at("components", "responses", "Error", "content", "application/json", "schema"), reflect.TypeOf(api.Error{}))
	c.same("drain", root.at("components", "schemas", "Drain"), reflect.TypeOf(struct {
		To string `json:"to,omitempty"`
	}{}))
	for name := range root.at("components", "schemas") {
		if !c.seen[name] {
			t.Errorf("nothing answers with a %s", name)
		}
	}
}

func anyList(v any) []any { list, _ := v.([]any); return list }

type comparison struct {
	t    *testing.T
	root node
	seen map[string]bool
}

// same holds a schema against the type that is answered with.
func (c *comparison) same(where string, schema node, typ reflect.Type) {
	c.t.Helper()
	if ref, ok := schema["$ref"].(string); ok {
		name := filepath.Base(ref)
		if c.seen[name] {
			return
		}
		c.seen[name] = true
		schema, where = schema.resolve(c.root), name
	}
	if typ == reflect.TypeFor[any]() { // of api.Error: the diagnostics of a configuration
		typ = reflect.TypeFor[[]config.Diagnostic]()
	}
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	want := jsonType(typ)
	if schema["type"] != want {
		c.t.Errorf("%s is %v, and %v (%s) in the code", where, schema["type"], typ, want)
		return
	}
	switch {
	case want == "array":
		c.same(where+"[]", schema.at("items"), typ.Elem())
	case typ.Kind() == reflect.Map:
		c.same(where+"{}", schema.at("additionalProperties"), typ.Elem())
	case want == "object":
		c.sameFields(where, schema, typ)
	}
}

func (c *comparison) sameFields(where string, schema node, typ reflect.Type) {
	fields, required := map[string]reflect.Type{}, []string{}
	for _, f := range reflect.VisibleFields(typ) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" || name == "-" {
			continue
		}
		fields[name] = f.Type
		if !strings.HasPrefix(options, "omit") {
			required = append(required, name)
		}
	}
	properties := schema.at("properties")
	if got, want := slices.Sorted(maps.Keys(properties)), slices.Sorted(maps.Keys(fields)); !slices.Equal(got, want) {
		c.t.Errorf("%s has\n%v, and in the code\n%v", where, got, want)
		return
	}
	var stated []string
	for _, name := range anyList(schema["required"]) {
		stated = append(stated, name.(string))
	}
	if got, want := slices.Sorted(slices.Values(stated)), slices.Sorted(slices.Values(required)); !slices.Equal(got, want) {
		c.t.Errorf("of %s these are always there: %v, and in the code %v", where, got, want)
	}
	for name, typ := range fields {
		c.same(where+"."+name, properties.at(name), typ)
	}
}

func jsonType(typ reflect.Type) string {
	if typ.Implements(reflect.TypeFor[encoding.TextMarshaler]()) || typ == reflect.TypeFor[time.Time]() {
		return "string"
	}
	switch typ.Kind() {
	case reflect.Bool:
		return "boolean"
	case reflect.String:
		return "string"
	case reflect.Slice:
		return "array"
	case reflect.Struct, reflect.Map:
		return "object"
	case reflect.Float32, reflect.Float64:
		return "number"
	case reflect.Int, reflect.Uint64:
		return "integer"
	}
	return fmt.Sprint(typ.Kind())
}
