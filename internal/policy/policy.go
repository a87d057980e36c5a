// Package policy says who may do what (I10): which groups an agent may push, which jobs it may serve and how much it may have; which groups
// and targets a user may read, push, delete and scrape. docs/how-to/who-may-do-what.md has the file.
//
// It promises that a text is read to its end and taken whole, or refused with the line of the first mistake; that a section which is there
// allows nothing that it does not name, and one which is not there forbids nothing; and that each refusal names the line of the rule that it
// comes from. A [Policy] is a value: it knows no store, no listener and no clock. Who somebody is is told by whoever asks. Start reading at
// [Policy.Agent] and [Policy.User]; a [Guard] is what a running relay asks.
package policy

import (
	"errors"
	"fmt"
	"path/filepath"

	"pushrelay/internal/yamldoc"
)

// The sections of a file.
const (
	AgentsKey = "agents"
	UsersKey  = "users"
)

// The bounds of a file.
const (
	// MaxBytes bounds its text.
	MaxBytes = 1 << 20
	// MaxRules is how many rules a section may have.
	MaxRules = 5000
	// MaxPatterns is how many names the rules of a section may have together.
	MaxPatterns = 10_000
)

// A Policy is what a file says. It is immutable and safe for concurrent use. Nil is that of no file: it forbids nothing.
type Policy struct {
	agents *section[agentRule] // nil if the file has no such section
	users  *section[userRule]
}

// Load reads a file. An empty name stands for none, which is nil. Errors name the file, and the line where there is one.
func Load(file string) (*Policy, error) {
	text, err := Read(file)
	if text == nil || err != nil {
		return nil, err
	}
	return Parse(file, text)
}

// Read returns the text of a file, as far as it may be long and a little more; nil for an empty name, which stands for none.
func Read(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	text, err := yamldoc.Read(file, MaxBytes)
	if err != nil {
		return nil, fmt.Errorf("reading the policy: %w", err)
	}
	return text, nil
}

// Parse reads the text of a file. Its name is for errors, and its base for what refusals name.
func Parse(name string, text []byte) (*Policy, error) {
	p, err := parse(filepath.Base(name), text)
	if err != nil {
		return nil, fmt.Errorf("policy %s: %w", name, err)
	}
	return p, nil
}

// errEmpty refuses a file that forbids nothing: it was cut, or is another one than was meant.
var errEmpty = errors.New("there is nothing in it, and so nothing would be forbidden: want agents, users or both, or no policy file")

func parse(base string, text []byte) (*Policy, error) {
	root, err := yamldoc.ParseMapping(text, MaxBytes, AgentsKey, UsersKey)
	if err != nil {
		return nil, err
	}
	if root == nil || len(root.Content) == 0 {
		return nil, errEmpty
	}
	sections, err := yamldoc.Settings(root, "the file", AgentsKey, UsersKey)
	if err != nil {
		return nil, err
	}
	p := &Policy{}
	if p.agents, err = readSection(base, sections[AgentsKey], readAgentRule); err != nil {
		return nil, err
	}
	if p.users, err = readSection(base, sections[UsersKey], readUserRule); err != nil {
		return nil, err
	}
	return p, nil
}

// Rules returns how many rules there are for agents and for users; -1 stands for no such section.
func (p *Policy) Rules() (agents, users int) {
	if p == nil {
		return -1, -1
	}
	return p.agents.len(), p.users.len()
}
