package agent

import (
	"reflect"
	"strings"
)

// fieldsOf returns the YAML keys of a struct, those of inlined structs included.
func fieldsOf[T any]() map[string]bool {
	keys := map[string]bool{}
	collectFields(reflect.TypeFor[T](), keys)
	return keys
}

func collectFields(t reflect.Type, keys map[string]bool) {
	for field := range t.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		switch {
		case strings.Contains(options, "inline") && field.Type.Kind() == reflect.Struct:
			collectFields(field.Type, keys)
		case name != "" && name != "-":
			keys[name] = true
		}
	}
}
