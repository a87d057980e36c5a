package spool

import (
	"fmt"
	"maps"
	"slices"

	"github.com/prometheus/common/model"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/metric"
	"pushrelay/internal/series"
)

// settings are what a relay said of itself when a session with it began last, as far as that decides what a push means and what the relay never
// takes. They are remembered, so that a push means the same while the relay is away. The relay's limits are not among them: they may be others
// when it is back, and what is larger waits until then.
type settings struct {
	agentLabel string                 // empty for none
	names      metric.NameScheme      // in paths and bodies
	own        map[string]metric.Type // the relay's own families by name; never written to
	later      string                 // fields of a later release, until the relay says something else
}

func (a *Attachment) settings() settings {
	return settings{agentLabel: a.AgentLabel, names: a.Names, own: a.OwnFamilies}
}

func (st settings) equals(other settings) bool {
	return st.agentLabel == other.agentLabel && st.names == other.names && maps.Equal(st.own, other.own)
}

// remembered are the settings of the relays that were met, by address, in memory and in the journal. It is guarded by Spool.mu, which the caller
// holds.
type remembered struct {
	// Static after New.
	journal *journal

	byAddress map[string]settings
}

// note remembers what a relay says now.
func (m *remembered) note(address string, st settings) {
	if known, ok := m.byAddress[address]; ok && known.equals(st) {
		return
	}
	m.byAddress[address] = st
	m.journal.note(settingsRecord(address, st))
}

// configure forgets the relays that are configured no more, for good: one that is configured again later is as one that was not met.
func (m *remembered) configure(addresses []string) {
	for _, address := range m.addresses() {
		if !slices.Contains(addresses, address) {
			delete(m.byAddress, address)
			m.journal.note(forgottenRecord(address))
		}
	}
}

// addresses are those of the relays that were met, sorted.
func (m *remembered) addresses() []string { return slices.Sorted(maps.Keys(m.byAddress)) }

// inPaths is the scheme by which names in the paths of pushes are read: the wider one if any relay takes it, so that all can be named that one
// takes. Before a relay was met it is that of a Pushgateway.
func (m *remembered) inPaths() metric.NameScheme {
	for _, st := range m.byAddress {
		if st.names == metric.UTF8Names {
			return metric.UTF8Names
		}
	}
	return metric.LegacyNames
}

// common is what the relays say alike: what none of them takes. Of one that was not met nothing is known, and it may take anything. What one
// takes and another does not is for the other to refuse, by its verdict.
type common struct {
	agentLabel string
	names      metric.NameScheme // in bodies
	relays     []settings        // of all; none if one was not met
}

func (m *remembered) common(addresses []string) common {
	c := common{names: metric.UTF8Names}
	for i, address := range addresses {
		st, known := m.byAddress[address]
		if !known {
			return common{names: metric.UTF8Names}
		}
		switch {
		case i == 0:
			c.agentLabel, c.names = st.agentLabel, st.names
		case c.agentLabel != st.agentLabel:
			c.agentLabel = ""
		}
		c.names = max(c.names, st.names)
		c.relays = append(c.relays, st)
	}
	if c.agentLabel == model.JobLabel { // which every group has
		c.agentLabel = ""
	}
	return c
}

// checkOwn refuses what clashes with the own families of every relay, in the words of the first.
func (c *common) checkOwn(body *exposition.Body) error {
	first := ""
	for i := range c.relays {
		fault := series.CheckOwn(body, c.relays[i].own)
		if fault == "" {
			return nil
		}
		if i == 0 {
			first = fault
		}
	}
	if first == "" {
		return nil
	}
	return change.Contradiction(first)
}

// Names is the scheme by which names in the paths of pushes are to be read; see [push.HandlerConfig]. It is the wider one if a relay takes it, as
// the relays said when a session with them began last, also before this start.
func (s *Spool) Names() metric.NameScheme {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.door.remembered.inPaths()
}

// NamesInDoubt says why [Spool.Names] may be another scheme soon, for people: none of the relays was met yet, of which one may take the wider one.
// It returns nil once one was.
func (s *Spool) NamesInDoubt() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.door.remembered.byAddress) > 0 {
		return nil
	}
	return fmt.Errorf("no relay was met that could say whether it takes UTF-8 names (--push.enable-utf8-names); push again once one is attached: %s",
		s.away.tell(s.cfg.Relays))
}
