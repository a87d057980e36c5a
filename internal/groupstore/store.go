package groupstore

import (
	"hash/maphash"
	"sync"
	"time"

	"pushrelay/internal/lifetime"
	"pushrelay/internal/metric"
	"pushrelay/internal/series"
)

// Config is what a store is made with. The zero value is a store in memory without limits that refuses what is
// inconsistent.
type Config struct {
	// OwnFamilies are all metric families that are exposed beside the groups, also those that have no series yet.
	OwnFamilies []OwnFamily
	// Check says what happens to families that do not fit together.
	Check Check
	// MaxSeries and MaxGroups bound what all groups together hold, in exposition lines and groups; 0 means no limit. The
	// two times of each group do not count.
	MaxSeries, MaxGroups int
	// AccountLabel is the grouping label whose values are accounts: those of agents, which may only hold so much each. Empty for no
	// accounts.
	AccountLabel string
	// MaxAccountSeries and MaxAccountGroups bound what the groups of one account hold; 0 means no limit.
	MaxAccountSeries, MaxAccountGroups int
	// AccountLimits returns what one account may hold instead, nil for the same for all. It is asked under a lock of the store, before an account
	// grows, and must neither block nor call the store.
	AccountLimits func(account string) AccountLimits
	// Now is the clock by which it is decided what has expired; nil for time.Now. It must be safe for concurrent use.
	Now func() time.Time
	// ShownAt is the clock by which views say what is late and what has expired; nil for Now. It must be safe for concurrent use.
	ShownAt func() time.Time
	// Presence tells which agents are gone; nil for none ever is.
	Presence Presence
	// Gone says of the journal of a relay's process that nothing which that process numbered is taken any more; nil for of none. It is asked in the
	// moment in which a change takes effect, under the store's lock, and must neither block nor call the store. Who does not know yet of all
	// processes that run must say no: a change of one of which the mark is dropped could take effect again.
	Gone func(journal [16]byte) bool
	// Appender commits changes; nil for a store in memory, where what is applied is committed.
	Appender Appender
	// Records bounds what groups may take where they are kept. The zero value is no bound.
	Records RecordLimits
	// TimesRise has the times of a group's pushes and failures never go back, whatever the clocks say that they come by (C9).
	TimesRise bool
	// ShortWipes says that those who follow understand a wipe that is one record ([WipeRecord]); nil for that they do not. It is asked under the store's
	// lock, and must neither block nor call the store.
	ShortWipes func() bool
	// ShowCommitted has views show of each group what it held when [Store.Commit] was last told, rather than what is applied by now.
	ShowCommitted bool
}

// OwnFamily is a metric family of the program itself, which the store has to know before anybody pushes one of that name
// (S17).
type OwnFamily struct {
	Name string
	Type metric.Type
}

// Check is the way in which consistency is kept.
type Check uint8

const (
	// CheckEnforced rejects a push that does not fit, whole.
	CheckEnforced Check = iota
	// CheckQuarantine keeps the families that do not fit but does not expose them (S9). Nothing about families is
	// rejected; timestamps still are.
	CheckQuarantine
)

// Store is a grouping store. It is made by [New] and safe for concurrent use.
type Store struct {
	// Static after construction.
	check      Check
	maxSeries  int
	maxGroups  int
	timesRise  bool
	records    RecordLimits
	shortWipes func() bool

	appender  Appender
	own       map[string]OwnFamily
	turns     turns
	encoders  sync.Pool // of *series.Encoder
	decisions sync.Pool // of *decision

	// mu guards everything below, and with it all that is said to be guarded by it elsewhere. Changes are decided, logged
	// and applied in one critical section, so that their order is the same everywhere.
	mu       sync.RWMutex
	position uint64 // of the last change
	contents
	conflicts
	exactlyOnce
	onlookers
	loading bool // a Loader is at work
}

// The rooms of a store. They are guarded by Store.mu, and apart from it none is used.

// contents are what the groups hold, and until when.
type contents struct {
	groups directory
	slots  slots
	sets   series.Table // of all groups
	lives  lives
	totals totals
}

// conflicts are what is exposed, and what is hidden because of that.
type conflicts struct {
	exposed  exposures
	waiting  waiting
	accounts accounts
	probes   int // look-ups made by the check, counted for tests of its cost
}

// exactlyOnce is what a push that comes again is known by.
type exactlyOnce struct {
	origins origins
	answers answers
}

// onlookers are who must learn what changes, and what those see that look.
type onlookers struct {
	feeds *feeds
	held  held
}

// totals are running sums over all groups.
type totals struct {
	lines, parts, valueBytes int
}

// New returns an empty store.
func New(cfg Config) *Store {
	s := &Store{
		check:      cfg.Check,
		maxSeries:  cfg.MaxSeries,
		maxGroups:  cfg.MaxGroups,
		timesRise:  cfg.TimesRise,
		records:    cfg.Records,
		shortWipes: cfg.ShortWipes,

		appender: cfg.Appender,
		own:      make(map[string]OwnFamily, len(cfg.OwnFamilies)),

		conflicts: conflicts{accounts: accounts{label: cfg.AccountLabel, limitsOf: cfg.AccountLimits}},
		onlookers: onlookers{feeds: &feeds{settledAtOnce: settledAtOnce}, held: held{on: cfg.ShowCommitted}},
	}
	if s.appender == nil {
		s.appender = inMemory{}
	}
	if s.shortWipes == nil {
		s.shortWipes = func() bool { return false }
	}
	s.exactlyOnce = newExactlyOnce(s.feeds, cfg.Gone)
	s.lives.now, s.lives.presence, s.lives.regime = cfg.Now, cfg.Presence, newRegime(lifetime.Regime{})
	if s.lives.now == nil {
		s.lives.now = time.Now
	}
	s.lives.shownAt = cfg.ShownAt
	if s.lives.shownAt == nil {
		s.lives.shownAt = s.lives.now
	}
	for _, f := range cfg.OwnFamilies {
		s.own[f.Name] = f
	}
	if s.accounts.limitsOf == nil {
		same := AccountLimits{Series: cfg.MaxAccountSeries, Groups: cfg.MaxAccountGroups, SeriesBy: SeriesFlag, GroupsBy: GroupsFlag}
		s.accounts.limitsOf = func(string) AccountLimits { return same }
	}
	s.turns.seed = maphash.MakeSeed()
	s.decisions.New = func() any { return new(decision) }
	s.encoders.New = func() any { return new(series.Encoder) }
	s.groups.hasher = series.NewHasher()
	s.sets = series.NewTable(s.groups.hasher)
	s.exposed.sets, s.exposed.slots = &s.sets, &s.slots
	s.reset()
	return s
}

// reset forgets all groups.
func (s *Store) reset() {
	s.contents.clear()
	s.conflicts.clear()
}

func (c *contents) clear() {
	c.groups.clear()
	c.sets.Clear()
	c.slots, c.totals = slots{}, totals{}
	c.lives.declared, c.lives.failed, c.lives.expiring = 0, 0, nil
}

func (c *conflicts) clear() {
	c.waiting.clear()
	c.accounts.clear()
	c.exposed.byFamily = nil
}

func newExactlyOnce(f *feeds, gone func(journal [16]byte) bool) exactlyOnce {
	return exactlyOnce{origins: newOrigins(f, gone), answers: answers{feeds: f}}
}

// clear forgets everything, also what no group is there for.
func (o *exactlyOnce) clear() {
	o.origins.clear()
	o.answers = answers{feeds: o.answers.feeds}
}

// forgetAll forgets everything, as if there had never been a change. Whoever follows is told all anew.
func (s *Store) forgetAll() {
	s.reset()
	s.waiting.order = 0
	s.exactlyOnce.clear()
	s.restart()
}

// restart has everybody learn all anew.
func (o *onlookers) restart() {
	o.held.byKey, o.held.committed = nil, 0
	o.feeds.wiped = wiped{}
	for _, f := range o.feeds.all {
		f.whole = true
	}
}

// Stats are the sizes of a store.
type Stats struct {
	Groups int
	// Series counts the exposition lines of all groups, without the two times that each group has.
	Series int
	// Families counts the names of metric families.
	Families int
	// Skeletons counts the distinct sets of series.
	Skeletons int
	// Quarantined counts the families of groups that are kept but not exposed.
	Quarantined int
	// Traces counts what is left of marks in groups that are not in the store, as long as their sources may send to them.
	Traces int
	// Bytes estimates the memory that all this takes.
	Bytes int64
}

// Stats returns the present sizes.
func (s *Store) Stats() Stats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	sets := s.sets.Counts()
	return Stats{
		Groups:      len(s.groups.byKey),
		Series:      s.totals.lines,
		Families:    sets.Families,
		Skeletons:   sets.Sets,
		Quarantined: s.waiting.hidden,
		Traces:      s.origins.fresh,
		Bytes: int64(s.totals.valueBytes) + int64(s.totals.parts)*partBytes + int64(s.groups.bytes) +
			int64(len(s.groups.byKey))*groupBytes + int64(sets.OwnBytes) + int64(sets.Sets)*setBytes +
			int64(sets.Headings)*headingBytes +
			int64(s.origins.marks)*markBytes + int64(len(s.origins.sources))*sourceBytes + int64(s.origins.fresh+s.origins.passed)*traceBytes +
			int64(len(s.answers.oldest))*answerBytes,
	}
}

// What things take beside the bytes of their texts, for Stats.Bytes.
const (
	partBytes    = 40
	groupBytes   = 320
	setBytes     = 130
	headingBytes = 1200 // with its texts, and the prepared pieces of the sets that are shared
	markBytes    = 120
	sourceBytes  = 400 // with its author
	traceBytes   = 90
	answerBytes  = 200
)
