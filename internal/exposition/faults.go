package exposition

import (
	"fmt"
	"strings"
)

const (
	// maxFaults and maxFaultBytes bound how many faults of a push are told, and how long they are together.
	maxFaults     = 10
	maxFaultBytes = 4 << 10
)

// Faults are what is wrong with a push, in the order in which it was found. The zero Faults are none.
type Faults struct {
	text  []byte
	told  int
	total int
}

// Add adds a fault. As many are told as somebody reads, and the others are counted.
func (f *Faults) Add(text string) {
	f.total++
	if f.told > 0 && (f.told == maxFaults || len(f.text)+len(text) > maxFaultBytes) {
		return
	}
	if f.told > 0 {
		f.text = append(f.text, "; "...)
	}
	f.text = append(f.text, text...)
	f.told++
}

// full says that further faults are only counted.
func (f *Faults) full() bool { return f.told == maxFaults }

// Any says whether there is a fault.
func (f *Faults) Any() bool { return f.total > 0 }

// String returns the faults for people; empty if there are none.
func (f *Faults) String() string {
	if f.told == f.total {
		return string(f.text)
	}
	return fmt.Sprintf("%s; and %d more", f.text, f.total-f.told)
}

// shownBytes is how much of a name or of labels an error tells: a series may have a megabyte of them.
const shownBytes = 1 << 10

// Shown returns a name, or labels, as errors show them: cut where they are too long to be told.
func Shown(text string) string { return Clip(text, shownBytes) }

// Clip cuts a text that is longer than so many bytes.
func Clip(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "") + "…"
}
