package yamldoc_test

import (
	"strings"
	"testing"

	"pushrelay/internal/yamldoc"
)

func TestParse(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		kind string // of the root: map, seq, none
		err  string
	}{
		"nothing":                {"", "none", ""},
		"comments":               {"# a\n\n# b\n", "none", ""},
		"an empty document":      {"---\n", "none", ""},
		"null":                   {"~\n", "none", ""},
		"a mapping":              {"a: 1\n", "map", ""},
		"a list":                 {"- a\n", "seq", ""},
		"JSON":                   {`[{"a": [1, 2]}]` + "\n", "seq", ""},
		"begin and end of one":   {"---\na: 1\n...\n# that is all\n", "map", ""},
		"byte order mark":        {"\uFEFFa: 1\nb: 2\n", "map", ""},
		"indented":               {"    a: 1\n    b:\n      - c\n# no indent\n", "map", ""},
		"multi-line text":        {"a: |\n  x\n\n  ---x\nb: 1\n", "map", ""},
		"not YAML":               {"a: [", "", "line 1"},
		"a second document":      {"a: 1\n---\nb: 2\n", "", "line 2: a second document"},
		"after an empty one":     {"---\n# nothing\n---\nb: 2\n", "", "line 3: a second document"},
		"an empty second":        {"a: 1\nb: 2\n---\n", "", "line 3: a second document"},
		"after an end":           {"a: 1\n...\n\nb: 2\n", "", "line 4: what begins here"},
		"pasted with its indent": {"    a:\n      - 1\n\n# rest\nb: 2\nc: 3\n", "", "line 5: what begins here"},
		"less of it":             {"    a: 1\n  b: 2\n", "", "line 2: what begins here"},
		"a list and a key":       {"  - a\n  - b\nc: 1\n", "", "line 3: what begins here"},
		"after JSON":             {"[1,\n 2]\n]\n", "", "line 3: what begins here"},
		"on the line of JSON":    {"{a: 1} b\n", "", "line 1: what begins here"},
		"without a line feed":    {"  a: 1\nb: 2", "", "line 2: what begins here"},
	} {
		t.Run(name, func(t *testing.T) {
			root, err := yamldoc.Parse([]byte(tt.text))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "yaml: ") {
					t.Errorf("Parse() error = %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			kind := "none"
			if root != nil {
				kind = strings.TrimPrefix(root.Tag, "!!")
			}
			if kind != tt.kind {
				t.Errorf("Parse() = a %s, want a %s", kind, tt.kind)
			}
		})
	}
}
