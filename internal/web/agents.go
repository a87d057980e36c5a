package web

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/route"

	"pushrelay/internal/roster"
	"pushrelay/internal/webpage"
)

// perPage is how many rows a list has.
const perPage = 100

// The values of the parameter state of the list of agents.
const (
	agentThere  = "connected"
	agentAway   = "offline"
	agentTorn   = "conflict"
	agentDown   = "targets-down"
	agentEnding = "certificate"
)

var agentStates = []option{
	{"", "all"}, {agentThere, "connected"}, {agentAway, "offline"}, {agentDown, "with targets down"}, {agentTorn, "two processes"}, {agentEnding, "certificate ends"},
}

// An option is one of a filter.
type option struct{ Value, Text string }

// A column is one by which a list can be put in order.
type column struct {
	Name  string
	By    string // the name of the order; empty for one that cannot
	Link  string // to the list in that order, or the other way round if it is in it
	Order string // ascending or descending; empty for another order
	Class string
}

type agentRow struct {
	Name, Version, RemoteAddress string
	Link                         string // below the root
	Connected, Conflict, Ending  bool
	Since, LastSeen, Expires     webpage.Moment
	RoundTrip, ClockSkew         string
	Pending                      uint64
	Targets, Down                int
	Relays                       string // with which it has a session
}

type agentList struct {
	webpage.Pager

	Text, State string
	States      []option
	Sort        string
	Columns     []column
	Orders      []option
	Known       int
	IsNarrow    bool // there may be agents that they do not see
	ShowsRelays bool
	Agents      []agentRow
}

func (h *Handler) showAgents(w http.ResponseWriter, r *http.Request) {
	query := webpage.Known(r.URL.Query(), "q", "state", "sort", "from")
	h.show(w, r, 0, func(rights *Rights, now time.Time) webpage.Page {
		return webpage.Page{Template: "agents", Title: "Agents", Place: "Agents", Topics: topicAgents, Content: h.newAgentList(rights, query, now)}
	})
}

// agentsFor returns the agents that somebody sees, sorted by name.
func (h *Handler) agentsFor(rights *Rights) []roster.Agent {
	return roster.Visible(h.cfg.Agents.Agents(), rights.SeesTarget)
}

// agentFor returns an agent as somebody sees it, and whether they do.
func (h *Handler) agentFor(rights *Rights, name string) (roster.Agent, bool) {
	a, known := h.cfg.Agents.Agent(name)
	if !known {
		return roster.Agent{}, false
	}
	seen := roster.Visible([]roster.Agent{a}, rights.SeesTarget)
	if len(seen) == 0 {
		return roster.Agent{}, false
	}
	return seen[0], true
}

func (h *Handler) newAgentList(rights *Rights, query url.Values, now time.Time) agentList {
	list := agentList{Text: query.Get("q"), State: query.Get("state"), States: agentStates, Sort: query.Get("sort")}
	agents := h.agentsFor(rights)
	list.Known, list.IsNarrow = len(agents), rights.SeesTarget != nil
	agents = slices.DeleteFunc(agents, func(a roster.Agent) bool { return !list.means(&a, now) })
	by := map[string]func(x, y *roster.Agent) int{
		"seen":    func(x, y *roster.Agent) int { return y.LastSeen.Compare(x.LastSeen) },
		"down":    func(x, y *roster.Agent) int { return y.Down() - x.Down() },
		"targets": func(x, y *roster.Agent) int { return len(y.Targets) - len(x.Targets) },
		"waiting": func(x, y *roster.Agent) int { return cmp.Compare(y.SpoolPending, x.SpoolPending) },
		"ends":    func(x, y *roster.Agent) int { return x.CertificateNotAfter.Compare(y.CertificateNotAfter) },
		"version": func(x, y *roster.Agent) int { return strings.Compare(x.Version, y.Version) },
	}
	sortBy(agents, query.Get("sort"), by)
	list.Columns = columns(query, column{Name: "Agent"}, column{Name: "State"}, column{Name: "Targets", By: "targets", Class: "number"}, column{Name: "Down", By: "down", Class: "number"}, column{Name: "Last heard", By: "seen"},
		column{Name: "Pushes waiting", By: "waiting", Class: "number"}, column{Name: "Version", By: "version"}, column{Name: "Certificate ends", By: "ends"})
	if list.ShowsRelays = h.showsRelays(rights); list.ShowsRelays {
		list.Columns = append(list.Columns, column{Name: "Relays"})
	}
	list.Orders = orders(list.Columns)
	var from, to int
	list.Pager, from, to = webpage.NewPager(query, len(agents), perPage)
	for i := range agents[from:to] {
		list.Agents = append(list.Agents, newAgentRow(&agents[from+i], now))
	}
	return list
}

// showsRelays says whether somebody sees with which relays of the cluster agents have sessions.
func (h *Handler) showsRelays(rights *Rights) bool {
	return h.cfg.Cluster != nil && !rights.HidesStatus
}

// means says whether the filter is about an agent.
func (l *agentList) means(a *roster.Agent, now time.Time) bool {
	if l.Text != "" && !strings.Contains(a.Name, l.Text) && !strings.Contains(a.RemoteAddress, l.Text) && !strings.Contains(a.Version, l.Text) {
		return false
	}
	switch l.State {
	case agentThere:
		return a.Connected
	case agentAway:
		return !a.Connected
	case agentTorn:
		return a.Conflict
	case agentDown:
		return a.Down() > 0
	case agentEnding:
		return certificateEndsSoon(a, now)
	default:
		return true
	}
}

// sortBy puts a list in the order of that name, which begins with - for the other way round. Equal ones stay in the order in which they are.
func sortBy[T any](list []T, by string, orders map[string]func(x, y *T) int) {
	name, reversed := strings.CutPrefix(by, "-")
	order := orders[name]
	if order == nil {
		return
	}
	slices.SortStableFunc(list, func(x, y T) int {
		if reversed {
			return order(&y, &x)
		}
		return order(&x, &y)
	})
}

// columns returns columns with links to their orders.
func columns(query url.Values, all ...column) []column {
	by := query.Get("sort")
	first := webpage.Known(query, "q", "state", "reason", "job", "agent", "sort") // of another order the first page is wanted
	for i := range all {
		c := &all[i]
		if c.By == "" {
			continue
		}
		next := c.By
		switch by {
		case c.By:
			c.Order, next = "descending", "-"+c.By
		case "-" + c.By:
			c.Order = "ascending"
		}
		c.Link = webpage.With(first, "sort", next)
	}
	return all
}

// orders returns the orders of a list as options, for where its columns have no heads.
func orders(all []column) []option {
	list := []option{{"", "by name"}}
	for _, c := range all {
		if c.By != "" {
			list = append(list, option{c.By, c.Name + ", descending"}, option{"-" + c.By, c.Name + ", ascending"})
		}
	}
	return list
}

func newAgentRow(a *roster.Agent, now time.Time) agentRow {
	row := agentRow{
		Name: a.Name, Link: agentLink(a.Name), Version: a.Version, RemoteAddress: a.RemoteAddress, Connected: a.Connected, Conflict: a.Conflict, Ending: certificateEndsSoon(a, now),
		Since: webpage.MomentOf(a.SessionStarted, now), LastSeen: webpage.MomentOf(a.LastSeen, now), Expires: webpage.MomentOf(a.CertificateNotAfter, now),
		Pending: a.SpoolPending, Targets: len(a.Targets), Down: a.Down(), Relays: strings.Join(a.Relays, ", "),
	}
	if a.RoundTrip != nil {
		row.RoundTrip = webpage.Duration(*a.RoundTrip)
	}
	if a.ClockSkew != nil {
		row.ClockSkew = skewWords(*a.ClockSkew)
	}
	return row
}

// agentLink leads to the page of an agent, below the root.
func agentLink(name string) string { return "agents/" + url.PathEscape(name) }

// skewWords says how far a clock is off.
func skewWords(skew time.Duration) string {
	switch {
	case skew.Abs() < 50*time.Millisecond:
		return "none"
	case skew < 0:
		return webpage.Duration(-skew) + " behind"
	default:
		return webpage.Duration(skew) + " ahead"
	}
}

// agentContent is what the page of one agent shows.
type agentContent struct {
	agentRow
	AgentTerms

	ShowsRelays            bool
	ShowsStatus            bool // what the relay has of it, and may have by the policy, is for who asks
	Serial                 string
	Sessions               int
	SessionLasts           string
	Groups, Series         int
	Withheld               int // targets that it announces and that the policy does not list
	GroupsLink             string
	Scrapes, Bytes         webpage.Graph
	Rows                   []targetRow
	More                   int // targets that are not shown
	MoreLink               string
	Token, Refusal, Forget string // Forget is where it is forgotten; empty if that is not for who asks
}

// targetsPerAgent is how many targets the page of an agent shows. The others are in the list of all targets.
const targetsPerAgent = 200

func (h *Handler) showAgent(w http.ResponseWriter, r *http.Request) {
	name := route.Param(r.Context(), "agent")
	h.show(w, r, 1, func(rights *Rights, now time.Time) webpage.Page {
		a, known := h.agentFor(rights, name)
		if !known {
			return missing("No agent of this name is known to this relay. It may never have come here, or have been forgotten.")
		}
		return webpage.Page{Template: "agent", Title: "Agent " + name, Place: "Agents", Topics: topicAgents, Content: h.newAgent(&a, rights, h.token(rights), now)}
	})
}

func (h *Handler) newAgent(a *roster.Agent, rights *Rights, token string, now time.Time) agentContent {
	c := agentContent{
		agentRow: newAgentRow(a, now), ShowsRelays: h.showsRelays(rights), Serial: a.CertificateSerial, Sessions: a.Sessions,
		More: max(len(a.Targets)-targetsPerAgent, 0), MoreLink: "targets?" + url.Values{"agent": {a.Name}}.Encode(), Token: token, Refusal: rights.Refusal,
	}
	if c.ShowsStatus = !rights.HidesStatus; c.ShowsStatus {
		c.AgentTerms, c.Withheld = h.cfg.AgentTerms(a.Name), a.Withheld
		c.Groups, c.Series = h.cfg.Store.Account(a.Name)
	}
	if h.cfg.AgentLabel != "" {
		c.GroupsLink = "groups?" + url.Values{"q": {matcher(h.cfg.AgentLabel, a.Name)}}.Encode()
	}
	hour := h.cfg.Recent.Agent(a.Name)
	c.Scrapes, c.Bytes = scrapeGraph(&hour), byteGraph(&hour)
	for i := range a.Targets[:min(len(a.Targets), targetsPerAgent)] {
		c.Rows = append(c.Rows, newTargetRow(a, &a.Targets[i], now))
	}
	if !a.Connected && rights.OffersForgetting {
		c.Forget = url.PathEscape(a.Name) + "/forget"
	}
	return c
}
