package grouping

import "strings"

// A Finder finds the value of one label in many keys, faster than [Key.Get]. It is immutable.
type Finder struct {
	name   string
	first  string // how a key begins whose first label it is
	within string // what stands before the value in any other
}

// NewFinder returns the finder of the label of that name.
func NewFinder(name string) Finder {
	return Finder{name: name, first: name + separator, within: separator + name + separator}
}

// In returns the value of the label in the key; empty if there is none.
func (f Finder) In(k Key) string {
	rest, found := strings.CutPrefix(k.canonical, f.first)
	if !found {
		at := strings.Index(k.canonical, f.within)
		if at < 0 {
			return ""
		}
		if strings.Count(k.canonical[:at], separator)%2 == 0 { // it is a value, which only looks like the name
			value, _ := k.Get(f.name)
			return value
		}
		rest = k.canonical[at+len(f.within):]
	}
	if end := strings.IndexByte(rest, separator[0]); end >= 0 {
		return rest[:end]
	}
	return rest
}
