package targets

import (
	"log/slog"
	"slices"

	"pushrelay/internal/scrape"
	"pushrelay/internal/target"
)

// noteMissing says once why targets may be missing, and that none are any more. The caller holds mu.
func (d *Discovery) noteMissing(missing string, hadTargets bool) {
	before := d.missing
	d.missing = missing
	switch {
	case missing == before:
	case missing == "":
		d.logger.Info("the list of targets is complete")
	case d.jobsUnknown && !hadTargets: // as it is with agents that only push
		d.logger.Info("this agent has no targets", slog.String("reason", missing))
	default:
		d.logger.Warn("targets may be missing: relays list those that were there before for a while, and then no more", slog.String("reason", missing))
	}
}

// noteDuplicates remembers and logs once which targets come twice. The caller holds mu.
func (d *Discovery) noteDuplicates(twice []*scrape.Endpoint) {
	var duplicates []string
	for _, e := range twice {
		duplicate := describeDuplicate(e.Target)
		if !slices.Contains(duplicates, duplicate) {
			duplicates = append(duplicates, duplicate)
		}
		if !slices.Contains(d.duplicates, duplicate) {
			d.logger.Error("target files name a target twice, it counts once", slog.String("err", duplicate))
		}
	}
	d.duplicates = duplicates
}

// noteTooMany remembers and logs once which bound the targets of configuration and files pass together: a relay would take none of them.
// The caller holds mu.
func (d *Discovery) noteTooMany(endpoints []*scrape.Endpoint) {
	before := d.tooMany
	d.tooMany = ""
	var count target.Count
	for _, e := range endpoints {
		if err := count.Add(e.Target.Bytes(), len(e.Target.Labels)); err != nil {
			d.tooMany = err.Error()
			break
		}
	}
	switch d.tooMany {
	case before:
	case "":
		d.logger.Info("the targets are within the bounds of relays again")
	default:
		d.logger.Error("targets cannot be announced, with those of target files they pass a bound of relays; the earlier ones stay", slog.String("err", d.tooMany))
	}
}
