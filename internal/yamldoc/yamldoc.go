// Package yamldoc reads YAML texts that hold one document. Libraries stop at the end of the first document, and a text ends
// early where somebody pasted a part with its indent, or joined two files: what follows would be ignored without a word. They also
// quote in errors what may be a password, which [Conceal] takes out.
//
// It knows nothing of what the texts mean.
package yamldoc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Parse returns the root of the only document of a text; nil if there is nothing in it but comments. It is an error if
// anything follows the document.
func Parse(text []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, Plain(err)
	}
	var second yaml.Node
	switch err := decoder.Decode(&second); {
	case err == nil:
		return nil, fmt.Errorf("line %d: a second document begins here, and only one is read: put all of it into one, without the line %q", second.Line, "---")
	case !errors.Is(err, io.EOF):
		return nil, fmt.Errorf("line %d: what begins here belongs to nothing before it and would be ignored: begin all keys of one level in the same column", strayLine(text))
	}
	root := document.Content[0]
	if root.Tag == "!!null" {
		return nil, nil
	}
	return root, nil
}

// strayLine returns the first line that does not belong to the document before it. The error of the library names another.
func strayLine(text []byte) int {
	lines := bytes.SplitAfter(text, []byte("\n"))
	return 1 + sort.Search(len(lines)-1, func(i int) bool { return strays(bytes.Join(lines[:i+1], nil)) })
}

// strays says whether something that is no document follows the first one.
func strays(text []byte) bool {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	if decoder.Decode(new(yaml.Node)) != nil {
		return false
	}
	err := decoder.Decode(new(yaml.Node))
	return err != nil && !errors.Is(err, io.EOF)
}

// Plain takes the library's own prefix and line breaks off an error, and what may be a secret: see [Conceal].
func Plain(err error) error {
	if list, ok := errors.AsType[*yaml.TypeError](err); ok {
		return errors.New(Conceal(strings.Join(list.Errors, "; ")))
	}
	return errors.New(Conceal(strings.TrimPrefix(err.Error(), "yaml: ")))
}
