package web

import (
	"cmp"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"pushrelay/internal/roster"
	"pushrelay/internal/webpage"
)

type targetRow struct {
	Agent, Name, Job, Instance, Address string
	targetState

	Link, AgentLink string // below the root
	Scraped         webpage.Moment
	Success         webpage.Moment
	Took            string
	Status          int // that the target answered; 0 if it did not
}

func newTargetRow(a *roster.Agent, t *roster.Target, now time.Time) targetRow {
	row := targetRow{
		Agent: a.Name, Name: t.Name, Job: t.Job, Instance: t.Instance, Address: t.Address, targetState: stateOf(a, t, now),
		Link: agentLink(a.Name) + "/targets/" + url.PathEscape(t.Name), AgentLink: agentLink(a.Name),
		Scraped: webpage.MomentOf(t.LastScrape, now), Success: webpage.MomentOf(t.LastSuccess, now), Status: t.LastStatus,
	}
	if t.LastDuration > 0 {
		row.Took = webpage.Duration(t.LastDuration)
	}
	return row
}

type targetList struct {
	webpage.Pager

	Text, State, Reason, Job, Agent, Sort string
	States, Reasons, Jobs                 []option
	Columns                               []column
	Orders                                []option
	Known                                 int
	IsNarrow                              bool // there may be targets that they do not see
	Targets                               []targetRow
}

// maxOptions is how many values a filter offers. More can be searched for.
const maxOptions = 200

func (h *Handler) showTargets(w http.ResponseWriter, r *http.Request) {
	query := webpage.Known(r.URL.Query(), "q", "state", "reason", "job", "agent", "sort", "from")
	h.show(w, r, 0, func(rights *Rights, now time.Time) webpage.Page {
		return webpage.Page{Template: "targets", Title: "Targets", Place: "Targets", Topics: topicAgents, Content: h.newTargetList(rights, query, now)}
	})
}

// A found target and its agent.
type found struct {
	agent  *roster.Agent
	target *roster.Target
	state  targetState
}

func (h *Handler) newTargetList(rights *Rights, query url.Values, now time.Time) targetList {
	list := targetList{
		Text: query.Get("q"), State: query.Get("state"), Reason: query.Get("reason"), Job: query.Get("job"), Agent: query.Get("agent"), Sort: query.Get("sort"),
		States: []option{{"", "all"}, {targetUp, "up"}, {targetDown, "down"}, {targetSilent, "not asked"}},
	}
	jobs, reasons := map[string]int{}, map[string]int{}
	list.IsNarrow = rights.SeesTarget != nil
	agents := h.agentsFor(rights)
	var all []found
	for i := range agents {
		a := &agents[i]
		for j := range a.Targets {
			f := found{a, &a.Targets[j], stateOf(a, &a.Targets[j], now)}
			list.Known++
			jobs[f.target.Job]++
			if f.state.Reason != "" {
				reasons[f.state.Reason]++
			}
			if list.means(&f) {
				all = append(all, f)
			}
		}
	}
	list.Jobs = options("all jobs", slices.Sorted(maps.Keys(jobs)), list.Job)
	list.Reasons = options("any reason", byCount(reasons), list.Reason)
	sortBy(all, list.Sort, targetOrders)
	list.Columns = columns(query, column{Name: "State", By: "state"}, column{Name: "Job", By: "job"}, column{Name: "Instance", By: "instance"}, column{Name: "Agent", By: "agent"},
		column{Name: "Last scrape", By: "scrape"}, column{Name: "Took", By: "took", Class: "number"}, column{Name: "What was said"})
	list.Orders = orders(list.Columns)
	var from, to int
	list.Pager, from, to = webpage.NewPager(query, len(all), perPage)
	for _, f := range all[from:to] {
		list.Targets = append(list.Targets, newTargetRow(f.agent, f.target, now))
	}
	return list
}

var targetOrders = map[string]func(x, y *found) int{
	"state":    func(x, y *found) int { return cmp.Compare(x.state.State+x.state.Reason, y.state.State+y.state.Reason) },
	"job":      func(x, y *found) int { return cmp.Compare(x.target.Job, y.target.Job) },
	"instance": func(x, y *found) int { return cmp.Compare(x.target.Instance, y.target.Instance) },
	"agent":    func(x, y *found) int { return cmp.Compare(x.agent.Name, y.agent.Name) },
	"scrape":   func(x, y *found) int { return y.target.LastScrape.Compare(x.target.LastScrape) },
	"took":     func(x, y *found) int { return cmp.Compare(y.target.LastDuration, x.target.LastDuration) },
}

// options returns the options of a filter, with the chosen one also if it is not among them any more.
func options(all string, values []string, chosen string) []option {
	list := []option{{"", all}}
	if chosen != "" && !slices.Contains(values, chosen) {
		list = append(list, option{chosen, chosen})
	}
	for _, value := range values[:min(len(values), maxOptions)] {
		list = append(list, option{value, value})
	}
	if i := slices.Index(values, chosen); i >= maxOptions {
		list = append(list, option{chosen, chosen})
	}
	return list
}

// means says whether the filter is about a target.
func (l *targetList) means(f *found) bool {
	t := f.target
	return (l.State == "" || f.state.State == l.State) && (l.Reason == "" || f.state.Reason == l.Reason) &&
		(l.Job == "" || t.Job == l.Job) && (l.Agent == "" || f.agent.Name == l.Agent) &&
		(l.Text == "" || strings.Contains(t.Instance, l.Text) || strings.Contains(t.Address, l.Text) || strings.Contains(t.Name, l.Text) || strings.Contains(t.Job, l.Text) || strings.Contains(f.agent.Name, l.Text))
}
