package policy

import (
	"fmt"
	"strings"
)

// An Identity is who somebody proved to be. The zero value is nobody.
type Identity struct {
	// Agent is the name of an agent; empty for anybody else, as the others are for an agent.
	Agent string
	// User is the name of a user whose password was right.
	User string
	// Certificate are the names in a client certificate that was verified.
	Certificate []string
}

func (id Identity) isNobody() bool {
	return id.Agent == "" && id.User == "" && len(id.Certificate) == 0
}

// String says who it is, for people.
func (id Identity) String() string {
	switch {
	case id.Agent != "":
		return fmt.Sprintf("agent %q", id.Agent)
	case id.User != "":
		return fmt.Sprintf("user %q", id.User)
	case len(id.Certificate) > 0:
		return fmt.Sprintf("certificate %q", id.Certificate[0])
	default:
		return "anonymous"
	}
}

// key is the same for two identities only if they are the same. What stands between the names is in none: no valid UTF-8 has it.
func (id Identity) key() string {
	if len(id.Certificate) == 0 {
		return id.Agent + id.User // never both
	}
	return id.User + "\xff" + strings.Join(id.Certificate, "\xff")
}
