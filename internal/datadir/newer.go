package datadir

import "fmt"

// NewerError says that something was written in a format that this release does not know, by a newer one. It was left as it is.
type NewerError struct {
	// What was written, for people: a path, or words such as "the store".
	What string
	// Release is the one that wrote it, as it calls itself; empty if that is not known.
	Release string
	// Format is the format that was found, and Known the highest that this release reads.
	Format, Known uint64
}

// Error names the release, so that its reader knows which one to start.
func (e *NewerError) Error() string {
	release := "a newer release"
	if e.Release != "" {
		release += ", " + e.Release
	}
	return fmt.Sprintf("%s was written by %s, in format %d, and this release reads formats up to %d: start the newer release, or one after it",
		e.What, release, e.Format, e.Known)
}
