package wal

import "fmt"

// Repaired says what [Repair] did. One without a Cause says that the log was not damaged.
type Repaired struct {
	// Cause is what was found.
	Cause string
	// SetAside are the paths that the damaged files have now. Each is whole, as it was found.
	SetAside []string
	// Moved are files that were found under each other's names.
	Moved []string
	// NoManifest says that the manifest was lost, and was made anew.
	NoManifest bool
	// Missing are the batches that were lost and given up, as numbers; a Last of 0 means that nobody knows how many there
	// were from First on. From now on [Open] reports the others as given up.
	Missing []Range
	// Snapshot is the path of the snapshot that the log begins with now; empty for none.
	Snapshot string
	// LostSnapshots are the paths of snapshots that were damaged, as they were. What can be read of the newest one was kept,
	// if there was no older one that is whole.
	LostSnapshots []string
	// LostBytes is how much of the damaged files could not be kept.
	LostBytes int64
	// Batches is the number of those that were kept after the snapshot.
	Batches uint64
	// Loss is what is lost of what was acknowledged, or may be; nil if it is proven that nothing is.
	Loss *Loss
	// Losses are all that nobody has acknowledged, that one included.
	Losses []Loss
	// Doubt is what the next start will cut off, of a log that is not damaged, and may have been acknowledged.
	Doubt *Loss
}

// Report says in lines for people what was kept and what is missing. The arguments are what the log holds, and what the
// command is called that acknowledges losses.
func (r Repaired) Report(what, acknowledge string) []string {
	if r.Cause == "" {
		lines := []string{"the " + what + " is not damaged; nothing was changed"}
		if r.Doubt != nil {
			lines = append(lines, "the next start will set aside what is at its end: "+r.Doubt.String())
		}
		return append(lines, r.losses(acknowledge)...)
	}
	lines := []string{r.Cause}
	for _, file := range r.Moved {
		lines = append(lines, "given back its name: "+file)
	}
	for _, file := range r.SetAside {
		lines = append(lines, "set aside as it was: "+file)
	}
	for _, file := range r.LostSnapshots {
		lines = append(lines, "damaged snapshot: "+file)
	}
	if r.NoManifest {
		lines = append(lines, "the manifest was made anew from the files that are there")
	}
	if r.Snapshot != "" {
		lines = append(lines, "the "+what+" begins with the snapshot "+r.Snapshot)
	}
	lines = append(lines, fmt.Sprintf("batches kept after that: %d; bytes that could not be kept: %d", r.Batches, r.LostBytes))
	for _, missing := range r.Missing {
		if missing.Last == 0 {
			lines = append(lines, fmt.Sprintf("missing: batches from %d on, nobody knows how many", missing.First))
			continue
		}
		lines = append(lines, fmt.Sprintf("missing: batches %d to %d", missing.First, missing.Last))
	}
	if r.Loss == nil {
		lines = append(lines, "nothing that was acknowledged is missing")
	}
	return append(lines, r.losses(acknowledge)...)
}

// losses says what is lost, in full, and what to do once that was read.
func (r Repaired) losses(acknowledge string) []string {
	var lines []string
	for _, loss := range r.Losses {
		lines = append(lines, "lost: "+loss.String())
	}
	if len(lines) > 0 {
		lines = append(lines, "every start, the metrics and /-/ready say so until somebody takes note of it: "+acknowledge)
	}
	return lines
}
