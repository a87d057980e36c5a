package web

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"pushrelay/internal/recent"
	"pushrelay/internal/roster"
	"pushrelay/internal/webpage"
)

// certificateEnds is how long before its end a certificate is told of. Agents renew theirs earlier, where they can.
const certificateEnds = 7 * 24 * time.Hour

// overviewContent is what the first page shows.
type overviewContent struct {
	Mark, Verdict, Words string
	Attention            []attention
	Agents, Connected    int
	Targets, Up, Silent  int
	Groups, Series       int
	Expecting            int // groups whose next push is expected
	Pushes, Scrapes      webpage.Graph
	Writable             string // why the store is not; empty if it is
	StoreBytes           int64
	Started              webpage.Moment
	Cluster              *clusterTile // nil for a relay by itself
	NoAgents, NoGroups   bool
	ShowsStatus          bool // what the relay tells of itself is for who asks
	IsNarrow             bool // there may be things that they do not see
	First                firstSteps
}

// An attention is something that may need somebody.
type attention struct {
	Figure  string
	What    string
	Details string
	Names   []string // behind the details
	Link    string   // below the root
	IsWarn  bool     // it is no fault yet
}

func (h *Handler) showOverview(w http.ResponseWriter, r *http.Request) {
	h.show(w, r, 0, func(rights *Rights, now time.Time) webpage.Page {
		c := h.newOverview(rights, now)
		c.First = h.firstSteps(r, rights)
		return webpage.Page{Template: "overview", Title: c.Verdict, Place: overview, Topics: topicAgents + " " + topicGroups + " " + topicRelays, Content: c}
	})
}

func (h *Handler) newOverview(rights *Rights, now time.Time) overviewContent {
	c := overviewContent{ShowsStatus: !rights.HidesStatus, IsNarrow: rights.isNarrow()}
	if c.ShowsStatus {
		c.addStatus(h, now)
	}
	c.addAgents(h.agentsFor(rights), now)
	c.addGroups(h.summaryFor(rights, now))
	c.judge()
	return c
}

// addStatus says how the relay itself is, and what all did together.
func (c *overviewContent) addStatus(h *Handler, now time.Time) {
	health := h.cfg.Health()
	c.Started, c.StoreBytes, c.Writable = webpage.MomentOf(h.cfg.StartedAt, now), h.cfg.Store.Stats().Bytes, health.StoreFailure
	if health.StoreFailure != "" {
		c.add("!", "The store cannot be changed: pushes are refused", health.StoreFailure, "status")
	}
	for _, loss := range health.Losses {
		c.add("!", "The store has lost something, or may have", loss, "status")
	}
	if h.cfg.Cluster != nil {
		cluster := h.cfg.Cluster()
		c.Cluster, c.Attention = cluster.tile(now), append(c.Attention, cluster.troubles(now)...)
	}
	scrapes, pushes := h.cfg.Recent.All()
	if n := pushes.Refused(); n > 0 {
		c.warn(webpage.Count(n), noun(n, "push was refused in the last hour", "pushes were refused in the last hour"), "the last of them, with their reasons", "refused")
	}
	if at := health.CertificateNotAfter; !at.IsZero() && at.Sub(now) < certificateEnds {
		c.warn("1", "certificate of the relay ends", webpage.MomentOf(at, now).Relative+": agents will not trust it then", "status")
	}
	c.Pushes, c.Scrapes = pushGraph(&pushes), scrapeGraph(&scrapes)
}

func (c *overviewContent) add(figure, what, details, link string, names ...string) {
	c.Attention = append(c.Attention, attention{Figure: figure, What: what, Details: details, Names: some(names), Link: link})
}

func (c *overviewContent) warn(figure, what, details, link string, names ...string) {
	c.add(figure, what, details, link, names...)
	c.Attention[len(c.Attention)-1].IsWarn = true
}

// addAgents counts agents and targets, and says which need attention.
func (c *overviewContent) addAgents(agents []roster.Agent, now time.Time) {
	var away, torn, ending []string
	down, downNames := map[string]int{}, map[string][]string{}
	for i := range agents {
		a := &agents[i]
		c.Agents++
		if a.Connected {
			c.Connected++
		} else {
			away = append(away, a.Name)
		}
		if a.Conflict {
			torn = append(torn, a.Name)
		}
		if certificateEndsSoon(a, now) {
			ending = append(ending, a.Name)
		}
		c.Targets += len(a.Targets)
		for j := range a.Targets {
			switch s := stateOf(a, &a.Targets[j], now); s.State {
			case targetUp:
				c.Up++
			case targetDown:
				down[s.Reason]++
				if names := downNames[s.Reason]; len(names) <= manyNames {
					downNames[s.Reason] = append(names, a.Targets[j].Job+" "+a.Targets[j].Instance)
				}
			default:
				c.Silent++
			}
		}
	}
	c.NoAgents = c.Agents == 0
	if len(away) > 0 {
		c.add(webpage.Count(len(away)), noun(len(away), "agent is offline", "agents are offline"), "", "agents?state="+agentAway, away...)
	}
	if len(torn) > 0 {
		c.add(webpage.Count(len(torn)), noun(len(torn), "agent has a double", "agents have doubles"), "two processes use one identity: ", "agents?state="+agentTorn, torn...)
	}
	for _, reason := range byCount(down) {
		n := down[reason]
		c.add(webpage.Count(n), noun(n, "target is down", "targets are down")+": "+reasonWords(reason), "", "targets?state="+targetDown+"&reason="+url.QueryEscape(reason), downNames[reason]...)
	}
	if len(ending) > 0 {
		c.warn(webpage.Count(len(ending)), noun(len(ending), "certificate of an agent ends within a week", "certificates of agents end within a week"), "", "agents?state="+agentEnding, ending...)
	}
}

func certificateEndsSoon(a *roster.Agent, now time.Time) bool {
	return !a.CertificateNotAfter.IsZero() && a.CertificateNotAfter.Sub(now) < certificateEnds
}

// addGroups says which groups need attention.
func (c *overviewContent) addGroups(sum *groupSummary) {
	c.Groups, c.Series, c.Expecting, c.NoGroups = sum.groups, sum.series, sum.expecting, sum.groups == 0
	for i, s := range groupStates {
		n := sum.inState[i].groups
		if n == 0 || s.one == "" {
			continue
		}
		names := slices.Compact(slices.Sorted(slices.Values(sum.inState[i].jobs)))
		c.Attention = append(c.Attention, attention{
			Figure: webpage.Count(n), What: noun(n, s.one, s.many), Names: some(names), Link: "groups?state=" + s.name, IsWarn: s.isWarn,
		})
	}
}

// judge says in a line how all of it is. Faults come before warnings.
func (c *overviewContent) judge() {
	slices.SortStableFunc(c.Attention, func(x, y attention) int { return boolOrder(x.IsWarn) - boolOrder(y.IsWarn) })
	faults := 0
	for _, a := range c.Attention {
		if !a.IsWarn {
			faults++
		}
	}
	switch {
	case faults > 0:
		c.Mark, c.Verdict = "bad", noun(len(c.Attention), "One thing needs attention", fmt.Sprintf("%d things need attention", len(c.Attention)))
	case len(c.Attention) > 0:
		c.Mark, c.Verdict = "warn", noun(len(c.Attention), "One thing to look at", fmt.Sprintf("%d things to look at", len(c.Attention)))
	case c.NoAgents && c.NoGroups && c.IsNarrow:
		c.Mark, c.Verdict, c.Words = "still", "Nothing is here for you", "There is nothing that you may read."
	case c.NoAgents && c.NoGroups:
		c.Mark, c.Verdict, c.Words = "still", "Nothing is here yet", "The relay runs and waits for agents and pushes."
	case c.NoAgents:
		c.Verdict, c.Words = "All is well", "No job is late or failing."
	default:
		c.Verdict, c.Words = "All is well", "Every agent is connected, no target is down, and no job is late or failing."
	}
}

func boolOrder(b bool) int {
	if b {
		return 1
	}
	return 0
}

// manyNames is how many names are told of many.
const manyNames = 4

// some returns the first of many names, and a sign that there are more.
func some(names []string) []string {
	if len(names) > manyNames {
		names = append(slices.Clone(names[:manyNames]), "…")
	}
	return names
}

func noun(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// byCount returns the keys of counts, those with the most first.
func byCount(counts map[string]int) []string {
	keys := make([]string, 0, len(counts))
	for key := range counts {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int { return cmp.Or(counts[b]-counts[a], cmp.Compare(a, b)) })
	return keys
}

// pushGraph draws the pushes of the last hour.
func pushGraph(hour *recent.PushHour) webpage.Graph {
	var all, refused [recent.Minutes]float64
	n := 0
	for i, m := range hour {
		all[i], refused[i] = float64(m.Taken)+float64(m.Refused), float64(m.Refused)
		n += int(m.Taken)
	}
	g := hourGraph("Pushes in the last hour", all[:], refused[:])
	g.Figure = webpage.Count(n)
	g.Words = fmt.Sprintf("Pushes by the minute: %d were taken in the last hour, %d refused.", n, hour.Refused())
	return g
}

// scrapeGraph draws the scrapes of the last hour.
func scrapeGraph(hour *recent.Hour) webpage.Graph {
	var all, failed [recent.Minutes]float64
	n, bad := 0, 0
	for i, m := range hour {
		all[i], failed[i] = float64(m.Scrapes), float64(m.FailedScrapes)
		n, bad = n+int(m.Scrapes), bad+int(m.FailedScrapes)
	}
	g := hourGraph("Scrapes in the last hour", all[:], failed[:])
	g.Figure = webpage.Count(n)
	g.Words = fmt.Sprintf("Scrapes by the minute: %d in the last hour, of which %d failed.", n, bad)
	return g
}

// byteGraph draws the bytes of the last hour.
func byteGraph(hour *recent.Hour) webpage.Graph {
	var all [recent.Minutes]float64
	sum := uint64(0)
	for i, m := range hour {
		all[i] = float64(m.Bytes)
		sum += m.Bytes
	}
	g := hourGraph("Bytes scraped in the last hour", all[:], nil)
	g.Figure = webpage.Bytes(sum)
	g.Words = "Bytes of the answers of targets by the minute: " + g.Figure + " in the last hour."
	return g
}

func hourGraph(name string, whole, bad []float64) webpage.Graph {
	g := webpage.NewGraph(whole, bad)
	g.Name, g.From, g.To = name, "an hour ago", "now"
	return g
}
