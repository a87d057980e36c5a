package selector

// MatchesLabels says whether what has these labels is meant, which need not be those of a group. The function returns the value of the label of
// a name, empty if there is none.
func (s *Selector) MatchesLabels(valueOf func(name string) string) bool {
	for i := range s.alternatives {
		if s.alternatives[i].matchesLabels(valueOf) {
			return true
		}
	}
	return false
}

func (a *alternative) matchesLabels(valueOf func(name string) string) bool {
	for _, m := range a.matchers {
		if !m.Matches(valueOf(m.Name)) {
			return false
		}
	}
	return true
}
