package spool

import (
	"errors"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/push"
	"pushrelay/internal/series"
)

// demands are what a relay refuses without looking at other groups.
type demands struct {
	limits exposition.Limits // while it has a session
	common

	attached bool
}

// check refuses what no relay would take: all that needs nothing but the push is judged here, connected or not (T14). It
// returns the families of the body.
func (s *Spool) check(r *change.Change) ([]uint64, error) {
	s.mu.Lock()
	d := s.demanded()
	s.mu.Unlock()
	if d.agentLabel != "" {
		if _, has := r.Key.Get(d.agentLabel); has {
			return nil, change.OwnAgentLabel(r.Key, d.agentLabel)
		}
	}
	if r.Operation == change.Delete && s.holds(r.Key) {
		return nil, nil // whatever its labels: it may be from before there were limits
	}
	if err := push.CheckKey(r.Key, d.limits); err != nil {
		return nil, err
	}
	if r.Operation == change.Delete {
		return nil, nil
	}
	return s.checkBody(&d, r)
}

// checkSum returns the families of what parts were added up to, each of which was accepted; or an error if some relay may refuse it. It is called
// under Spool.mu.
func (s *Spool) checkSum(r *change.Change) ([]uint64, error) {
	d := demands{limits: s.limitsOfSums(), common: s.remembered.common(s.cfg.Relays)}
	return s.checkBody(&d, r)
}

// checkBody checks the body of a push, whose key is sound, and returns its families.
func (s *Spool) checkBody(d *demands, r *change.Change) ([]uint64, error) {
	if limit := d.limits.MaxDecompressedBytes; limit > 0 && int64(len(r.Body)) > limit {
		return nil, change.Refuse(change.TooLarge, "body is larger than %d bytes (--push.max-decompressed-size)", limit)
	}
	parser := s.parsers.Get().(*exposition.Parser)
	defer s.putBack(parser)
	body, err := parser.Parse(r.Format, r.Body, exposition.Options{Names: d.names, Limits: d.limits})
	if inconsistent, ok := errors.AsType[*exposition.InconsistentError](err); ok {
		return nil, change.Contradiction(inconsistent.Error())
	}
	if err != nil {
		return nil, &change.Outcome{Kind: change.Invalid, Detail: exposition.Diagnose(err, r.Format, r.Body)}
	}
	stored := r.Key
	if d.agentLabel != "" {
		stored = stored.With(d.agentLabel, s.cfg.Agent)
	}
	if fault := series.Check(body, stored, added(r, d.agentLabel)); fault != "" {
		return nil, change.Contradiction(fault)
	}
	if err := d.checkOwn(body); err != nil {
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

// holds says whether the spool knows the group.
func (s *Spool) holds(key grouping.Key) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.groups.byKey[key] != nil
}

func (s *Spool) putBack(parser *exposition.Parser) {
	parser.Reset()
	s.parsers.Put(parser)
}

// cautious are the limits of sums for relays that have not told theirs since the start: nearly all allow more.
var cautious = exposition.Limits{MaxDecompressedBytes: 1 << 20, MaxSeries: 10_000}

// limitsOfSums are those that every relay allows: a sum that one refuses for its size would be lost there, although it took the parts.
func (s *Spool) limitsOfSums() exposition.Limits {
	limits := s.cfg.Limits
	for _, address := range s.cfg.Relays {
		told, known := s.told[address]
		if !known {
			told = cautious
		}
		limits.MaxDecompressedBytes = lesser(limits.MaxDecompressedBytes, told.MaxDecompressedBytes)
		limits.MaxSeries = lesser(limits.MaxSeries, told.MaxSeries)
		limits.MaxLabels = lesser(limits.MaxLabels, told.MaxLabels)
		limits.MaxLabelLength = lesser(limits.MaxLabelLength, told.MaxLabelLength)
	}
	return limits
}

// demanded returns what no relay takes, or the agent's flags do not allow. What one relay takes and another does not is for the other to refuse, by its
// verdict: here it would keep pushes from both. So would what a relay says that has no session any more: its limits may be others when it is back. It is called under Spool.mu.
func (s *Spool) demanded() demands {
	d := demands{limits: s.cfg.Limits, common: s.remembered.common(s.cfg.Relays)}
	var loosest exposition.Limits
	for i, address := range s.cfg.Relays {
		relay := s.demands[address]
		if i == 0 {
			loosest, d.attached = relay.limits, relay.attached
			continue
		}
		loosest.MaxDecompressedBytes = greater(loosest.MaxDecompressedBytes, relay.limits.MaxDecompressedBytes)
		loosest.MaxSeries = greater(loosest.MaxSeries, relay.limits.MaxSeries)
		loosest.MaxLabels = greater(loosest.MaxLabels, relay.limits.MaxLabels)
		loosest.MaxLabelLength = greater(loosest.MaxLabelLength, relay.limits.MaxLabelLength)
		d.attached = d.attached && relay.attached
	}
	if d.attached {
		d.limits.MaxDecompressedBytes = lesser(d.limits.MaxDecompressedBytes, loosest.MaxDecompressedBytes)
		d.limits.MaxSeries = lesser(d.limits.MaxSeries, loosest.MaxSeries)
		d.limits.MaxLabels = lesser(d.limits.MaxLabels, loosest.MaxLabels)
		d.limits.MaxLabelLength = lesser(d.limits.MaxLabelLength, loosest.MaxLabelLength)
	}
	return d
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
