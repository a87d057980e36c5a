package groupstore

import (
	"fmt"
	"maps"
	"slices"
)

// A loader that was told that records are missing loads what can still be read. What is about a set that is lost is lost with it, and is told by its
// group.

// Missing says that records are missing at this place. From then on nothing is refused because of what it refers to.
func (l *Loader) Missing() {
	l.lossy, l.adrift = true, true
	l.drifting = nil // their group is among what is missing
}

// Lost names what is lost of the groups that are still known, one line each. It is valid after Finish.
func (l *Loader) Lost() []string { return l.lost }

// noteLost notes how much of a group is lost, and reports whether that is all of it.
func (l *Loader) noteLost(lg *loadedGroup, lost int) (all bool) {
	if lost == 0 {
		return false
	}
	if len(lg.effect.parts) == 0 {
		l.lost = append(l.lost, lg.effect.Key.String())
		return true
	}
	l.lost = append(l.lost, fmt.Sprintf("%s: %d of %d metric families", lg.effect.Key, lost, lost+len(lg.effect.parts)))
	return false
}

// release looks again at what was hidden because of something that is lost.
func (l *Loader) release() {
	s := l.s
	for _, h := range l.orphans {
		if p := h.g.state.find(h.family); p != nil && p.hidden == h.h && h.g.state.hidden() == "" {
			s.rejudge(h.g, p)
		}
	}
	for _, normal := range slices.Sorted(maps.Keys(s.groups.shadowed)) {
		if list := s.groups.shadowed[normal]; len(list) > 0 && s.groups.unfit(list[0]) == "" {
			s.promoteShadowed(normal)
		}
	}
}
