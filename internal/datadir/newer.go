package datadir

import (
	"encoding/json"
	"fmt"
)

// Head is what every JSON file of ours begins with.
type Head struct {
	// Version is that of the file's format. The zero value is none.
	Version uint64 `json:"version"`
	// Release is the one that wrote the file; empty if it did not say.
	Release string `json:"release,omitempty"`
}

// ReadHead returns the head of a file that cannot be read as what it should be: a newer one may have other fields, but for these two. It is zero for what
// is no JSON object.
func ReadHead(text []byte) Head {
	var h Head
	if json.Unmarshal(text, &h) != nil {
		return Head{}
	}
	return h
}

// CheckKnown returns a [*NewerError] if the format is higher than the highest that this release reads; what names the file.
func (h Head) CheckKnown(what string, known uint64) error {
	if h.Version <= known {
		return nil
	}
	return &NewerError{What: what, Release: h.Release, Format: h.Version, Known: known}
}

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
