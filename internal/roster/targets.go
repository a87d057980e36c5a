package roster

import (
	"log/slog"
	"slices"
	"strings"
	"time"

	"pushrelay/internal/target"
)

// listedAfter is how long a target stays listed that its agent announces no more, where nobody knows that this was meant:
// long enough for Prometheus to see that it is down.
const listedAfter = 5 * time.Minute

// announcement is what became of a set that an agent announced.
type announcement struct {
	changed bool
	// left are the names of targets that it leaves out and that stay listed.
	left []string
	// contested are the names of targets whose instance or address another agent had first, one of which is firstAgent.
	contested  []string
	firstAgent string
	// quiet says that the agent has had enough lines of the log.
	quiet bool
	// anotherProcess says that another process had announced them, complete that the set leaves them out knowingly.
	anotherProcess, complete bool
	withheld                 note
}

// replaceTargets takes what a process of an agent announces. The caller holds mu, and notes what became of it afterwards.
func (r *Registry) replaceTargets(a *listedAgent, process [16]byte, set target.Set) announcement {
	r.dropLeft(a, time.Now()) // or a host would be had that is listed no more
	earlier := a.targets
	done := announcement{anotherProcess: process != a.AnnouncedBy, complete: set.Completeness == target.Complete}
	done.changed, done.left = a.setTargets(process, set, time.Now(), r.lastClaim+1)
	if done.changed { // many agents may share a host, so that this costs
		r.lastClaim++
		r.changes.Add(1)
		r.byHost.remove(a.Name, earlier)
		r.withhold(a)
		r.byHost.add(a)
		done.contested, done.firstAgent = r.contestedBy(a, r.lastClaim)
		r.sharing.Changed(a.Name)
	}
	done.quiet = len(done.left)+len(done.contested) > 0 && !a.lines.Allow()
	a.AnnouncedBy = process
	r.announced = true
	done.withheld = a.tellWithheld()
	if !r.rebuilding {
		r.settledAt = time.Time{}
	}
	return done
}

// note sees to what an announcement brings with it. The caller does not hold mu.
func (r *Registry) note(agent string, done announcement) {
	if done.changed {
		r.wake()
	}
	r.takeNote(done.withheld)
	r.metrics.contested.Add(float64(len(done.contested)))
	if len(done.contested) > 0 && !done.quiet {
		r.cfg.Logger.Warn("agent announces targets at hosts that another agent had first: as a proxy, the relay asks that one for them, unless a request says _agent",
			slog.String("agent", agent), slog.Int("count", len(done.contested)), slog.String("targets", someOf(done.contested)), slog.String("other_agent", done.firstAgent))
	}
	if len(done.left) > 0 && !done.quiet {
		r.cfg.Logger.Warn("agent announces targets no more: they stay listed for a while, and their scrapes fail",
			slog.String("agent", agent), slog.Int("count", len(done.left)), slog.String("targets", someOf(done.left)), slog.Duration("listed_for", listedAfter),
			slog.Bool("another_process", done.anotherProcess), slog.Bool("list_is_complete", done.complete))
	}
}

// someOf names the first of many.
func someOf(names []string) string {
	if len(names) > maxNamed {
		return strings.Join(names[:maxNamed], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}

// setTargets keeps what is known of the last scrape of a target that stays, and reports whether anything changed, and which
// targets were left out and stay listed. Hosts that the agent did not have before it has since this announcement.
func (a *listedAgent) setTargets(process [16]byte, set target.Set, now time.Time, announcement uint64) (changed bool, left []string) {
	byName := make(map[string]*Target, len(set.Targets))
	order := make([]string, 0, len(set.Targets))
	var had claims
	for _, t := range set.Targets {
		next := &Target{Target: t}
		if old := a.targets[t.Name]; old != nil && old.Equal(t) && old.ListedUntil.IsZero() {
			next = old
		} else {
			if !changed {
				had = claimsOf(a.targets)
			}
			had.give(next, announcement)
			changed = true
		}
		byName[t.Name] = next
		order = append(order, t.Name)
	}
	for _, old := range a.leftOut(byName, process, set) {
		if old.ListedUntil.IsZero() {
			old.ListedUntil = now.Add(listedAfter)
			left, changed = append(left, old.Name), true
		}
		byName[old.Name] = old
		order = append(order, old.Name)
	}
	changed = changed || !slices.Equal(order, a.order)
	a.targets, a.order = byName, order
	return changed, left
}

// leftOut returns the targets that a set leaves out and that stay listed for a while, those that were there last before those
// that were left out earlier, up to the bounds of a set.
func (a *listedAgent) leftOut(byName map[string]*Target, process [16]byte, set target.Set) (stay []*Target) {
	if replacesAll(set) {
		return nil
	}
	knowingly := set.Completeness == target.Complete && process == a.AnnouncedBy
	var series map[string]bool
	var count target.Count
	for _, name := range a.order {
		old := a.targets[name]
		if byName[name] != nil || old.ListedUntil.IsZero() && knowingly {
			continue
		}
		if series == nil {
			series = make(map[string]bool, len(set.Targets))
			for _, t := range set.Targets {
				series[seriesOf(t)] = true
			}
		}
		// Two targets whose series are the same would both be stored, one up and the other down.
		if series[seriesOf(old.Target)] {
			continue
		}
		if count.Add(old.Bytes(), len(old.Labels)) != nil {
			break
		}
		stay = append(stay, old)
	}
	return stay
}

// replacesAll reports whether nothing stays that a set leaves out, whoever announced it: the set says expressly that there are
// no targets, or it is of an agent that does not know how to say that.
func replacesAll(set target.Set) bool {
	return set.Completeness == target.Unsaid || set.Completeness == target.Complete && len(set.Targets) == 0
}

// seriesOf is the same for two targets of an agent whose series Prometheus cannot tell apart.
func seriesOf(t target.Target) string {
	var b strings.Builder
	for _, s := range []string{t.Job, t.Instance} {
		b.WriteString(s)
		b.WriteByte(0xff) // in no label
	}
	for _, l := range t.Labels {
		b.WriteString(l.Name)
		b.WriteByte(0xff)
		b.WriteString(l.Value)
		b.WriteByte(0xff)
	}
	return b.String()
}

// dropLeft forgets the targets of an agent that were listed long enough. The caller holds mu.
func (r *Registry) dropLeft(a *listedAgent, now time.Time) {
	before := len(a.order)
	if before == 0 || a.targets[a.order[before-1]].ListedUntil.IsZero() { // they are the last
		return
	}
	over := func(name string) bool { return a.targets[name].isOver(now) }
	if !slices.ContainsFunc(a.order, over) {
		return
	}
	r.changes.Add(1)
	r.byHost.remove(a.Name, a.targets)
	a.order = slices.DeleteFunc(a.order, func(name string) bool {
		gone := over(name)
		if gone {
			delete(a.targets, name)
		}
		return gone
	})
	r.withhold(a)
	r.byHost.add(a)
	r.cfg.Logger.Info("targets that were announced no more are listed no more", slog.String("agent", a.Name), slog.Int("count", before-len(a.order)))
	r.wake()
}

// isOver reports whether the target is announced no more and was listed long enough since.
func (t *Target) isOver(now time.Time) bool {
	return !t.ListedUntil.IsZero() && !now.Before(t.ListedUntil)
}

// Down counts the targets of which Prometheus has up 0: those whose last scrape was no success, and all that cannot be scraped.
func (a *Agent) Down() int {
	down := 0
	for _, t := range a.Targets {
		if !a.Connected || t.LastError != "" || !t.ListedUntil.IsZero() {
			down++
		}
	}
	return down
}
