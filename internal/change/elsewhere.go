package change

import (
	"strings"

	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
)

const (
	inGroup     = " in group "
	inSomeGroup = " in a group that is not yours to read"
)

// InGroup says, behind the words of a reason, in which other group something is. Whoever tells reasons to others asks [Readable].
func InGroup(key grouping.Key) string { return inGroup + exposition.Shown(key.String()) }

// Readable returns a reason as it is told to somebody who sees only some groups: it names no others. A nil function sees all. What follows a group
// that cannot be read, as in a reason that was cut, is left out.
func Readable(reason string, sees func(key grouping.Key) bool) string {
	if sees == nil {
		return reason
	}
	var told strings.Builder
	for {
		before, rest, names := strings.Cut(reason, inGroup)
		told.WriteString(before)
		if !names {
			return told.String()
		}
		key, behind, whole := grouping.CutString(rest)
		switch {
		case !whole:
			told.WriteString(inSomeGroup)
			return told.String()
		case sees(key):
			told.WriteString(InGroup(key))
		default:
			told.WriteString(inSomeGroup)
		}
		reason = behind
	}
}
