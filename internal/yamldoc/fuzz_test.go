package yamldoc_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"pushrelay/internal/yamldoc"
)

// FuzzParse looks for a text whose end is not read: one that is taken has nothing but comments behind its document, and a document that is
// added to it is noticed.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"a: 1\n", "---\na: 1\n...\n# end\n", "  a: 1\nb: 2\n", "a: |\n  x\n---\n", "'\n", "\uFEFFa: 1\n", "[{a: b}]", "%YAML 1.1\n---\na\n", "&a [*a]"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		root, err := yamldoc.Parse([]byte(text))
		if err != nil {
			if root != nil || err.Error() == "" {
				t.Errorf("%q: %v, %v", text, root, err)
			}
			return
		}
		decoder := yaml.NewDecoder(strings.NewReader(text))
		documents := 0
		for ; ; documents++ {
			if err := decoder.Decode(new(yaml.Node)); errors.Is(err, io.EOF) {
				break
			} else if err != nil || documents > 1 {
				t.Fatalf("%q is taken, and its document %d is %v", text, documents+1, err)
			}
		}
		if strings.HasPrefix(text, "\xfe\xff") || strings.HasPrefix(text, "\xff\xfe") {
			return // UTF-16, to which nothing in UTF-8 can be added
		}
		if root == nil || documents != 1 {
			if root != nil {
				t.Errorf("%q has %d documents", text, documents)
			}
			return
		}
		if _, err := yamldoc.Parse([]byte(text + "\n---\nx: 1\n")); err == nil {
			t.Errorf("%q with a second document is taken", text)
		}
	})
}
