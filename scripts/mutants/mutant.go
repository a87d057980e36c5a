package main

import (
	"bytes"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// A mutant is one fault in the source, and what must notice it.
type mutant struct {
	// rule is the one that the fault breaks: C8.
	rule string
	// name says in a few words what the faulty program does. No two have the same.
	name string
	// file is changed, a path below the root of the module with slashes: text occurs in it exactly once, and instead comes in its place.
	file, text, instead string
	// pkg has the tests that must fail, a path as that of file; empty for the file's own.
	pkg string
	// by are those tests, separated by blanks. One that fails is enough.
	by string
}

// table returns all mutants, in the order of the rules.
func table() []mutant { return slices.Concat(deciding, between, members) }

// choose returns the mutants that are of one of the rules, or have one of the words in their names; for an empty list all.
func choose(all []mutant, only string) (chosen []mutant) {
	for _, m := range all {
		for word := range strings.SplitSeq(only, ",") {
			if only == "" || word == m.rule || word != "" && !isRule(word) && strings.Contains(m.name, word) {
				chosen = append(chosen, m)
				break
			}
		}
	}
	return chosen
}

// isRule says whether a word is the name of a rule.
func isRule(word string) bool {
	return len(word) > 1 && word[0] == 'C' && strings.Trim(word[1:], "0123456789") == ""
}

// packageOf returns the folder of the tests that must notice it.
func (m *mutant) packageOf() string {
	if m.pkg != "" {
		return m.pkg
	}
	return path.Dir(m.file)
}

// tests returns their names.
func (m *mutant) tests() []string { return strings.Fields(m.by) }

// source returns the file with the fault in it. Root is where the module is.
func (m *mutant) source(root string) ([]byte, error) {
	before, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(m.file)))
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(before, []byte(m.text)); n != 1 {
		return nil, fmt.Errorf("%s has the text %d times, and it must be there once:\n%s", m.file, n, m.text)
	}
	after := bytes.Replace(before, []byte(m.text), []byte(m.instead), 1)
	if bytes.Equal(before, after) {
		return nil, fmt.Errorf("%s is not changed by it", m.file)
	}
	if _, err := parser.ParseFile(token.NewFileSet(), m.file, after, parser.SkipObjectResolution); err != nil {
		return nil, fmt.Errorf("with the fault it is no Go file: %w", err)
	}
	return after, nil
}
