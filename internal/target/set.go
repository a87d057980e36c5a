package target

// Set is all that an agent can scrape, as it announces it.
type Set struct {
	Targets []Target
	// Completeness says whether what is not in the set was left out knowingly.
	Completeness Completeness
}

// Completeness is what an agent knows of a set of its targets.
type Completeness uint8

// The degrees of completeness.
const (
	// Unsaid is that of agents that do not know the question: their set is taken for the truth.
	Unsaid Completeness = iota
	// Complete means that the configuration says which targets there are, and that each file that it names was read.
	Complete
	// Incomplete means that targets may be missing: there is no configuration, or a file of it could not be read.
	Incomplete
)

// Validate validates each target, that no name comes twice, and the bounds of all.
func (s Set) Validate() error { return ValidateSet(s.Targets) }
