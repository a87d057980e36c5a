package tunnel

import (
	"fmt"
	"strings"

	relayv1 "pushrelay/internal/gen/relay/v1"
)

// MaxDeniedNamed is how many denied targets are named.
const MaxDeniedNamed = 5

// Denied are targets of an agent that its relay does not list, since its policy does not let the agent serve them. The zero value is none.
type Denied struct {
	// Count is how many there are, Targets the names of the first of them, at most [MaxDeniedNamed].
	Count   int
	Targets []string
	// Message is why the first one is denied, for people; empty if there are none.
	Message string
}

// String says how many there are, which, and why; empty for none.
func (d Denied) String() string {
	if d.Count == 0 {
		return ""
	}
	more := ""
	if d.Count > len(d.Targets) {
		more = ", …"
	}
	return fmt.Sprintf("%d (%s%s): %s", d.Count, strings.Join(d.Targets, ", "), more, d.Message)
}

// DeniedToProto returns the message that tells of denied targets.
func DeniedToProto(d Denied) *relayv1.TargetsDenied {
	return &relayv1.TargetsDenied{Count: uint32(d.Count), Targets: d.Targets, Message: Text(d.Message)}
}

// DeniedFromProto returns what a relay tells, within bounds.
func DeniedFromProto(m *relayv1.TargetsDenied) Denied {
	if m.GetCount() == 0 {
		return Denied{}
	}
	d := Denied{Count: int(m.GetCount()), Message: Text(m.GetMessage())}
	for _, name := range m.GetTargets()[:min(len(m.GetTargets()), MaxDeniedNamed)] {
		d.Targets = append(d.Targets, textOf(name, maxDeniedName))
	}
	return d
}

// maxDeniedName bounds the name of a denied target, as target.Target's is.
const maxDeniedName = 200
