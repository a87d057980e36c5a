package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Way is how a certificate came to be issued.
type Way string

// The ways. They are written in the file, and are the values of a metric's label.
const (
	// ByCommand is relay-server agent-certificate.
	ByCommand Way = "command"
	// ByToken is a join token, ByRenewal an agent that renewed the certificate that it had.
	ByToken   Way = "token"
	ByRenewal Way = "renewal"
)

// Ways are all of them.
func Ways() []Way { return []Way{ByCommand, ByToken, ByRenewal} }

func (w Way) isKnown() bool { return slices.Contains(Ways(), w) }

// Certificate is one that was issued to an agent.
type Certificate struct {
	Agent string
	// Serial is its serial number, see [Serial].
	Serial   string
	From, To time.Time
	By       Way
	// At is when it was issued, and Address to which; empty for a command.
	At      time.Time
	Address string
	// Token is the id of the token and Key the digest of the public key, both in hexadecimal; of ByToken. Parent is the serial number of the
	// certificate that it renewed; of ByRenewal.
	Token, Key, Parent string
	// Refused says that it is revoked; of what a state returns.
	Refused bool
}

// Revocation says that certificates of an agent are refused.
type Revocation struct {
	Agent string
	// Serial is that of the one certificate; empty for all.
	Serial string
	At     time.Time
	// Until is when the last certificate ends that it refuses; zero if nobody knows, and then it is kept for ever.
	Until time.Time
	// KeepTargets says that the agent's targets are to stay in the list.
	KeepTargets bool
}

// Agent is what the ledger has of one name.
type Agent struct {
	Name string
	// Revoked is the revocation of the name; nil if it is not revoked.
	Revoked *Revocation
	// Serials are the revocations of single certificates, by serial number.
	Serials []Revocation
	// Certificates are those that were issued, the newest last.
	Certificates []Certificate
}

// Has reports whether a certificate was issued to the agent.
func (a *Agent) Has(serial string) bool {
	return slices.ContainsFunc(a.Certificates, func(c Certificate) bool { return c.Serial == serial })
}

// IsOut reports whether the agent is thrown out: its name is revoked, and it has got no certificate since that is not refused.
func (a *Agent) IsOut() bool {
	return a.Revoked != nil && !slices.ContainsFunc(a.Certificates, func(c Certificate) bool { return !c.Refused })
}

// State is what a ledger says. It is safe for concurrent use.
type State struct {
	torn int // bytes that were dropped at the end; static

	mu      sync.RWMutex
	records []Record                // guarded by mu; in their order
	agents  map[string]*agentRecord // guarded by mu
	tokens  map[string]*knownToken  // guarded by mu; by id
}

// agentRecord is guarded by State.mu. Each number is the place of a record: what is higher was later.
type agentRecord struct {
	revoked int            // 0 for not revoked
	serials map[string]int // of single certificates that are revoked, by serial number
	issued  map[string]int // of certificates, by serial number; an agent has a few, and one that asks all the time thousands
}

// isEmpty reports whether there is nothing of the agent any more, as of one that was revoked by mistake and allowed again. Nil is none.
func (a *agentRecord) isEmpty() bool {
	return a == nil || a.revoked == none && len(a.serials) == 0 && len(a.issued) == 0
}

// none is the place of what is not there.
const none = 0

func (c content) state() *State {
	s := NewState()
	s.torn = c.torn
	s.Begin(c.records)
	return s
}

// NewState returns the state of no records.
func NewState() *State {
	return &State{agents: map[string]*agentRecord{}, tokens: map[string]*knownToken{}}
}

// Torn returns how many bytes were dropped at the end of the file when it was read: of a record that was never written whole, so that
// nobody was told that it counts.
func (s *State) Torn() int { return s.torn }

// Serial returns a serial number as mtls.Serial does, lower-case hexadecimal without leading zeros, from how people and openssl write it.
func Serial(text string) (string, error) {
	const most = 40 // 20 bytes (RFC 5280)
	digits := strings.TrimLeft(strings.ToLower(strings.ReplaceAll(text, ":", "")), "0")
	if digits == "" || len(digits) > most || strings.Trim(digits, "0123456789abcdef") != "" {
		return "", errors.New("want a serial number in hexadecimal, as openssl x509 -serial prints it")
	}
	return digits, nil
}

// Refuses reports whether a certificate of an agent is refused, and why. It looks at what is in the ledger and at nothing else: that the
// certificate is genuine and has not ended is for its caller to know.
//
// A revocation of the name refuses every certificate but those that were issued after it. What issues one then sees to it, [Ledger.Issue]: a token
// that was made for the name since, or the renewal of a certificate that is not refused.
func (s *State) Refuses(name, serial string) (reason string, refused bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.refuses(name, serial)
}

// refuses is Refuses. The caller holds mu.
func (s *State) refuses(name, serial string) (reason string, refused bool) {
	a := s.agents[name]
	if a == nil {
		return "", false
	}
	if at := a.serials[serial]; at != none {
		return fmt.Sprintf("its certificate %s was revoked at %s", serial, s.timeOf(at)), true
	}
	if a.revoked == none {
		return "", false
	}
	if a.issued[serial] > a.revoked {
		return "", false
	}
	return s.reasonOf(a), true
}

// reasonOf says when the name was revoked. The caller holds mu.
func (s *State) reasonOf(a *agentRecord) string { return "it was revoked at " + s.timeOf(a.revoked) }

// timeOf returns when a record was, for people. The caller holds mu.
func (s *State) timeOf(place int) string {
	return s.records[place-1].At.UTC().Format(time.RFC3339)
}

// Has reports whether a certificate was issued to an agent.
func (s *State) Has(name, serial string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	a := s.agents[name]
	return a != nil && a.issued[serial] != none
}

// HasAny reports whether any certificate was issued to an agent, of which the ledger knows.
func (s *State) HasAny(name string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	a := s.agents[name]
	return a != nil && len(a.issued) > 0
}

// HasOther reports whether an agent has a certificate of another key which is good, or may still be renewed.
func (s *State) HasOther(name, key string, now time.Time, grace time.Duration) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.hasOther(name, key, now, grace)
}

// hasOther is HasOther. The caller holds mu.
func (s *State) hasOther(name, key string, now time.Time, grace time.Duration) bool {
	a := s.agents[name]
	if a == nil {
		return false
	}
	for serial, place := range a.issued {
		c := s.records[place-1].Issued
		if _, refused := s.refuses(name, serial); c.Key != key && !refused && now.Before(c.To.Add(grace)) {
			return true
		}
	}
	return false
}

// isRevoked reports whether a name is revoked. The caller holds mu.
func (s *State) isRevoked(name string) bool {
	a := s.agents[name]
	return a != nil && a.revoked != none
}

// Agent returns what there is of a name; found is false if there is nothing.
func (s *State) Agent(name string) (a Agent, found bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.agents[name].isEmpty() {
		return Agent{Name: name}, false
	}
	return s.view(name), true
}

// Agents returns what there is of every name, sorted.
func (s *State) Agents() []Agent {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]Agent, 0, len(s.agents))
	for name, a := range s.agents {
		if !a.isEmpty() {
			out = append(out, s.view(name))
		}
	}
	slices.SortFunc(out, func(x, y Agent) int { return cmp.Compare(x.Name, y.Name) })
	return out
}

// view is Agent of one that is there. The caller holds mu.
func (s *State) view(name string) Agent {
	known, out := s.agents[name], Agent{Name: name}
	if known.revoked != none {
		out.Revoked = new(s.revocation(known.revoked))
	}
	for _, place := range known.serials {
		out.Serials = append(out.Serials, s.revocation(place))
	}
	slices.SortFunc(out.Serials, func(x, y Revocation) int { return cmp.Compare(x.Serial, y.Serial) })
	for _, place := range slices.Sorted(maps.Values(known.issued)) {
		out.Certificates = append(out.Certificates, s.certificate(place))
	}
	return out
}

func (s *State) revocation(place int) Revocation {
	r := s.records[place-1]
	return Revocation{Agent: r.Revoked.Agent, Serial: r.Revoked.Serial, At: r.At, Until: r.Revoked.Until, KeepTargets: r.Revoked.Keep}
}

func (s *State) certificate(place int) Certificate {
	r := s.records[place-1]
	_, refused := s.refuses(r.Issued.Agent, r.Issued.Serial)
	return Certificate{
		Agent: r.Issued.Agent, Serial: r.Issued.Serial, From: r.Issued.From, To: r.Issued.To, By: r.Issued.By, At: r.At, Address: r.Issued.Address,
		Token: r.Issued.Token, Key: r.Issued.Key, Parent: r.Issued.Parent, Refused: refused,
	}
}

// ThrownOut reports whether an agent is thrown out, as [Agent.IsOut] says, and why.
func (s *State) ThrownOut(name string) (reason string, out bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	a := s.agents[name]
	if a == nil || !s.isOut(a) {
		return "", false
	}
	return s.reasonOf(a), true
}

// isOut is Agent.IsOut. The caller holds mu.
func (s *State) isOut(a *agentRecord) bool {
	if a.revoked == none {
		return false
	}
	for serial, place := range a.issued {
		if place > a.revoked && a.serials[serial] == none {
			return false
		}
	}
	return true
}

// Revoked returns how many agents are thrown out.
func (s *State) Revoked() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	count := 0
	for _, a := range s.agents {
		if s.isOut(a) {
			count++
		}
	}
	return count
}

// count returns how many records count.
func (s *State) count() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.records)
}

// Records returns all that count.
func (s *State) Records() []Record {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.records)
}

// Begin makes the state that of these records, and of no other.
func (s *State) Begin(records []Record) {
	fresh := NewState() // nobody waits while it is made
	fresh.Count(records...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records, s.agents, s.tokens = fresh.records, fresh.agents, fresh.tokens
}

// Count lets more records count, all at once.
func (s *State) Count(records ...Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range records {
		s.apply(r)
	}
}

// apply lets a record count. The caller holds mu.
func (s *State) apply(r Record) {
	s.records = append(s.records, r)
	place := len(s.records)
	switch {
	case r.Token != nil:
		s.tokens[r.Token.ID] = newKnownToken(r)
		return
	case r.Voided != nil:
		s.void(r.Voided.Token)
		return
	}
	a := s.agents[r.agent()]
	if a == nil {
		a = &agentRecord{serials: map[string]int{}, issued: map[string]int{}}
		s.agents[r.agent()] = a
	}
	switch {
	case r.Issued != nil:
		a.issued[r.Issued.Serial] = place
		s.use(r.Issued, place)
	case r.Allowed != nil:
		a.revoked = none
		clear(a.serials)
	case r.Revoked.Serial != "":
		a.serials[r.Revoked.Serial] = place
	default:
		a.revoked = place
		s.voidOf(r.Revoked.Agent)
	}
}

// Live returns the records that are not over: certificates until the end of their grace, revocations that stand until that of the last
// certificate that they refuse, tokens until their end, and as long what was issued for them. What lifted a revocation is over with it.
func (s *State) Live(now time.Time, grace time.Duration) []Record {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var live []Record
	for i, r := range s.records {
		if s.isLive(i+1, r, now.Add(-grace), now) {
			live = append(live, r)
		}
	}
	return live
}

// isLive reports whether a record is to be kept; what ended before is over unless it is a token. The caller holds mu.
func (s *State) isLive(place int, r Record, before, now time.Time) bool {
	switch {
	case r.Token != nil:
		return s.tokens[r.Token.ID].isLive(now)
	case r.Voided != nil, r.Allowed != nil:
		return false
	}
	a := s.agents[r.agent()]
	switch {
	case r.Issued != nil:
		return a.issued[r.Issued.Serial] == place && (before.Before(r.Issued.To) || s.tokens[r.Issued.Token].isLive(now))
	case r.Revoked.Serial != "" && a.serials[r.Revoked.Serial] != place, r.Revoked.Serial == "" && a.revoked != place:
		return false
	default:
		return r.Revoked.Until.IsZero() || before.Before(r.Revoked.Until)
	}
}
