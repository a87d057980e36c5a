package web

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/selector"
	"pushrelay/internal/webpage"
)

// selectTime is how long groups may be looked for.
const selectTime = 10 * time.Second

type groupRow struct {
	Labels  []grouping.Label // the job first
	Link    string           // below the root
	Badges  []badge
	Series  int
	Pushed  webpage.Moment
	Due     webpage.Moment
	Expires webpage.Moment
	Why     string // what is wrong, in words; empty for nothing
	Seen    string // for forms
}

// groupList is the part of a page about the groups that were looked for.
type groupList struct {
	webpage.Pager

	Text, State, Sort string
	States            []option
	Columns           []column
	Orders            []option
	Known             int
	Groups            []groupRow
	Problem           string // why the text cannot be looked for
	Deletes           string // where what was found is deleted; empty if there is nothing, or if that is not for who asks
	Refusal           string
	IsFiltered        bool
	IsNarrow          bool // there may be groups that they do not see
}

func (h *Handler) showGroups(w http.ResponseWriter, r *http.Request) {
	query := webpage.Known(r.URL.Query(), "q", "state", "sort", "from")
	h.show(w, r, 0, func(rights *Rights, now time.Time) webpage.Page {
		list := h.newGroupList(r.Context(), rights, query, now)
		status := http.StatusOK
		if list.Problem != "" {
			status = http.StatusBadRequest
		}
		return webpage.Page{Template: "groups", Title: "Groups", Place: "Groups", Status: status, Topics: topicGroups, Content: list}
	})
}

// newGroupList looks for groups and returns a page of them.
func (h *Handler) newGroupList(ctx context.Context, rights *Rights, query url.Values, now time.Time) groupList {
	list := groupList{Text: query.Get("q"), State: query.Get("state"), Sort: query.Get("sort"), States: []option{{"", "all"}}, Refusal: rights.Refusal}
	list.IsFiltered = list.Text != "" || list.State != ""
	for _, s := range groupStates {
		list.States = append(list.States, option{s.name, s.text})
	}
	list.Columns = columns(query, column{Name: "Group"}, column{Name: "State", By: "state"}, column{Name: "Last push", By: "pushed"}, column{Name: "Next is late", By: "due"},
		column{Name: "Expires", By: "expires"}, column{Name: "Series", By: "series", Class: "number"})
	list.Orders = orders(list.Columns)
	groups, err := h.find(ctx, rights, query)
	if err != nil {
		list.Problem = err.Error()
		return list
	}
	list.IsNarrow, list.Known = rights.SeesGroup != nil, h.summaryFor(rights, now).groups
	sortBy(groups, list.Sort, groupOrders)
	var from, to int
	list.Pager, from, to = webpage.NewPager(query, len(groups), perPage)
	for _, g := range groups[from:to] {
		list.Groups = append(list.Groups, h.newGroupRow(g, rights, now))
	}
	if rights.OffersDeletion != nil && list.IsFiltered && len(groups) > 0 {
		list.Deletes = "groups/delete" + webpage.With(webpage.Known(query, "q", "state"), "", "")
	}
	return list
}

var groupOrders = map[string]func(x, y *groupstore.Group) int{
	"state":   func(x, y *groupstore.Group) int { return severity(*x) - severity(*y) },
	"pushed":  func(x, y *groupstore.Group) int { return y.PushTime().Compare(x.PushTime()) },
	"due":     func(x, y *groupstore.Group) int { return compareDates(x.Due(), y.Due()) },
	"expires": func(x, y *groupstore.Group) int { return compareDates(x.Expires(), y.Expires()) },
	"series":  func(x, y *groupstore.Group) int { return y.Series() - x.Series() },
}

// compareDates orders dates; none is the latest.
func compareDates(x, y time.Time) int {
	switch {
	case x.IsZero() || y.IsZero():
		return cmp.Compare(boolOrder(x.IsZero()), boolOrder(y.IsZero()))
	default:
		return x.Compare(y)
	}
}

// find returns the groups that a query is about, in the order of their keys, as far as somebody sees them.
func (h *Handler) find(ctx context.Context, rights *Rights, query url.Values) ([]groupstore.Group, error) {
	means, err := meaning(query.Get("q"))
	if err != nil {
		return nil, err
	}
	isIn := func(groupstore.Group) bool { return true }
	if s := stateNamed(query.Get("state")); s != nil {
		isIn = s.isIn
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), selectTime) // whoever only closed the sending half still reads
	defer cancel()
	view, err := h.cfg.Store.Select(ctx, func(g groupstore.Group) bool { return rights.seesGroup(g.Key()) && means(g.Key()) })
	if err != nil {
		return nil, err
	}
	groups := make([]groupstore.Group, 0, view.Len())
	for g := range view.Groups() { // the view has left out what is not exposed any more
		if isIn(g) {
			groups = append(groups, g)
		}
	}
	return groups, nil
}

// meaning returns which keys a search is about: matchers as Prometheus has them, with or without their braces, or a part of the key.
func meaning(text string) (func(grouping.Key) bool, error) {
	text = strings.TrimSpace(text)
	switch {
	case text == "":
		return func(grouping.Key) bool { return true }, nil
	case !strings.ContainsAny(text, "{=~!"):
		return func(key grouping.Key) bool { return strings.Contains(key.String(), text) }, nil
	case !strings.Contains(text, "{"):
		text = "{" + text + "}"
	}
	chosen, err := selector.Parse([]string{text})
	if err != nil {
		return nil, err
	}
	return chosen.Matches, nil
}

// matcher writes a search for a label.
func matcher(name, value string) string { return "{" + name + "=" + strconv.Quote(value) + "}" }

func (h *Handler) newGroupRow(g groupstore.Group, rights *Rights, now time.Time) groupRow {
	row := groupRow{
		Labels: jobFirst(g.Key()), Link: h.groupLink(g.Key()), Badges: badgesOf(g), Series: g.Series(), Pushed: webpage.MomentOf(g.PushTime(), now),
		Due: webpage.MomentOf(g.Due(), now), Expires: webpage.MomentOf(g.Expires(), now), Seen: seen(g.Key(), g.Version()),
	}
	switch {
	case rejected(g):
		row.Why = rights.told(g.FailureReason())
	case g.JobFailure() != "":
		row.Why = g.JobFailure()
	case g.Quarantined() != "":
		row.Why = rights.told(g.Quarantined())
	}
	return row
}

// groupLink leads to the page of a group, below the root: it has the path of its pushes.
func (h *Handler) groupLink(key grouping.Key) string { return "group/" + key.PathFor(h.cfg.Names) }

func jobFirst(key grouping.Key) []grouping.Label {
	labels := key.Labels()
	job := slices.IndexFunc(labels, func(l grouping.Label) bool { return l.Name == "job" })
	if job > 0 {
		first := labels[job]
		labels = slices.Insert(slices.Delete(labels, job, job+1), 0, first)
	}
	return labels
}
