package spool

import (
	"errors"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/push"
	"pushrelay/internal/series"
)

// A door is where pushes are refused that no relay would take. It knows of each relay what that said of its limits, and of itself. All but what is
// static is guarded by Spool.mu, which the caller holds; bodies are read outside of it.
type door struct {
	// Static after New.
	agent   string   // the identity, which relays add to keys
	relays  []string // the configured addresses
	limits  exposition.Limits
	parsers *parsers

	told       map[string]told // by address; none of a relay without a session since the start
	remembered remembered
}

// told are the limits of a relay, as it told them last.
type told struct {
	limits   exposition.Limits
	attached bool // there is a session: they hold
}

func newDoor(cfg *Config, p *parsers, j *journal) door {
	return door{
		agent: cfg.Agent, relays: cfg.Relays, limits: cfg.Limits, parsers: p,
		told: map[string]told{}, remembered: remembered{journal: j, byAddress: map[string]settings{}},
	}
}

// met notes what a relay says when a session begins.
func (d *door) met(a *Attachment) {
	d.told[a.Relay] = told{limits: a.Limits, attached: true}
	d.remembered.note(a.Relay, a.settings())
}

// left notes that there is no session with a relay any more.
func (d *door) left(relay string) {
	d.told[relay] = told{limits: d.told[relay].limits}
}

// demands are what is refused without looking at other groups.
type demands struct {
	limits exposition.Limits
	common
}

// check refuses what no relay would take: all that needs nothing but the push is judged here, connected or not (T14). It returns the families of the
// body. Whether the spool holds the group is known as of the demands. It is called without Spool.mu.
func (d *door) check(demanded *demands, holds bool, r *change.Change) ([]uint64, error) {
	if demanded.agentLabel != "" {
		if _, has := r.Key.Get(demanded.agentLabel); has {
			return nil, change.OwnAgentLabel(r.Key, demanded.agentLabel)
		}
	}
	if r.Operation == change.Delete && holds {
		return nil, nil // whatever its labels: it may be from before there were limits
	}
	if err := push.CheckKey(r.Key, demanded.limits); err != nil {
		return nil, err
	}
	if r.Operation == change.Delete {
		return nil, nil
	}
	return d.checkBody(demanded, r)
}

// checkSum returns the families of what parts were added up to, each of which was accepted; or an error if some relay may refuse it.
func (d *door) checkSum(r *change.Change) ([]uint64, error) {
	return d.checkBody(&demands{limits: d.limitsOfSums(), common: d.remembered.common(d.relays)}, r)
}

// checkBody checks the body of a push, whose key is sound, and returns its families. It needs no lock.
func (d *door) checkBody(demanded *demands, r *change.Change) ([]uint64, error) {
	if limit := demanded.limits.MaxDecompressedBytes; limit > 0 && int64(len(r.Body)) > limit {
		return nil, change.Refuse(change.TooLarge, "body is larger than %d bytes (--push.max-decompressed-size)", limit)
	}
	parser := d.parsers.get()
	defer d.parsers.put(parser)
	body, err := parser.Parse(r.Format, r.Body, exposition.Options{Names: demanded.names, Limits: demanded.limits})
	if inconsistent, ok := errors.AsType[*exposition.InconsistentError](err); ok {
		return nil, change.Contradiction(inconsistent.Error())
	}
	if err != nil {
		return nil, &change.Outcome{Kind: change.Invalid, Detail: exposition.Diagnose(err, r.Format, r.Body)}
	}
	stored := r.Key
	if demanded.agentLabel != "" {
		stored = stored.With(demanded.agentLabel, d.agent)
	}
	if fault := series.Check(body, stored, added(r, demanded.agentLabel)); fault != "" {
		return nil, change.Contradiction(fault)
	}
	if err := demanded.checkOwn(body); err != nil {
		return nil, err
	}
	return familiesOf(body), nil
}

// added returns the names of the grouping labels that whoever wrote the body did not choose.
func added(r *change.Change, agentLabel string) []string {
	var names []string
	if r.Owner != "" {
		names = grouping.Names(r.Key.Labels())
	}
	if agentLabel != "" {
		names = append(names, agentLabel)
	}
	return names
}

// cautious are the limits of sums for relays that have not told theirs since the start: nearly all allow more.
var cautious = exposition.Limits{MaxDecompressedBytes: 1 << 20, MaxSeries: 10_000}

// limitsOfSums are those that every relay allows: a sum that one refuses for its size would be lost there, although it took the parts.
func (d *door) limitsOfSums() exposition.Limits {
	limits := d.limits
	for _, address := range d.relays {
		relay, known := d.told[address]
		if !known {
			relay.limits = cautious
		}
		limits = tighter(limits, relay.limits)
	}
	return limits
}

// demands returns what no relay takes, or the agent's flags do not allow. What one relay takes and another does not is for the other to refuse, by its
// verdict: here it would keep pushes from both. So would what a relay says that has no session any more: its limits may be others when it is back.
func (d *door) demands() demands {
	all := demands{limits: d.limits, common: d.remembered.common(d.relays)}
	var loosest exposition.Limits
	for i, address := range d.relays {
		relay := d.told[address]
		switch {
		case !relay.attached:
			return all
		case i == 0:
			loosest = relay.limits
		default:
			loosest = looser(loosest, relay.limits)
		}
	}
	all.limits = tighter(all.limits, loosest)
	return all
}

// tighter returns of each limit the lower one.
func tighter(a, b exposition.Limits) exposition.Limits {
	a.MaxDecompressedBytes = lesser(a.MaxDecompressedBytes, b.MaxDecompressedBytes)
	a.MaxSeries = lesser(a.MaxSeries, b.MaxSeries)
	a.MaxLabels = lesser(a.MaxLabels, b.MaxLabels)
	a.MaxLabelLength = lesser(a.MaxLabelLength, b.MaxLabelLength)
	return a
}

// looser returns of each limit the higher one.
func looser(a, b exposition.Limits) exposition.Limits {
	a.MaxDecompressedBytes = greater(a.MaxDecompressedBytes, b.MaxDecompressedBytes)
	a.MaxSeries = greater(a.MaxSeries, b.MaxSeries)
	a.MaxLabels = greater(a.MaxLabels, b.MaxLabels)
	a.MaxLabelLength = greater(a.MaxLabelLength, b.MaxLabelLength)
	return a
}

// lesser returns the lower of two limits, where 0 is none.
func lesser[T int | int64](a, b T) T {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// greater returns the higher of two limits, where 0 is none.
func greater[T int | int64](a, b T) T {
	if a == 0 || b == 0 {
		return 0
	}
	return max(a, b)
}
