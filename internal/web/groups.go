package web

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/series"
)

const (
	// groupsPerPage and familiesPerPage bound a page: a group of many families leaves out what does not fit.
	groupsPerPage   = 200
	familiesPerPage = 2000
	// familiesPerGroup is how many families a group shows that is not alone on its page.
	familiesPerGroup = 100
)

// The values of the query's show.
const (
	showAll         = ""
	showRejected    = "rejected"
	showQuarantined = "quarantined"
	showFailed      = "failed"
	showLate        = "late"
	showExpired     = "expired"
)

// shown says which groups a value of show is about.
var shown = map[string]func(groupstore.Group) bool{
	showAll:         func(groupstore.Group) bool { return true },
	showRejected:    rejected,
	showQuarantined: groupstore.Group.HasQuarantined,
	showFailed:      groupstore.Group.HasFailed,
	showLate:        groupstore.Group.IsLate,
	showExpired:     groupstore.Group.HasExpired,
}

// A query says which groups to show.
type query struct {
	text string // part of the grouping key
	show string
	from int // how many of them to leave out before the first
}

func readQuery(values url.Values) query {
	q := query{text: strings.TrimSpace(values.Get("q")), show: values.Get("show")}
	if shown[q.show] == nil {
		q.show = showAll
	}
	if from, err := strconv.Atoi(values.Get("from")); err == nil && from > 0 {
		q.from = from
	}
	return q
}

// link returns the query that shows the same groups from another one on.
func (q query) link(from int) string {
	values := url.Values{}
	if q.text != "" {
		values.Set("q", q.text)
	}
	if q.show != showAll {
		values.Set("show", q.show)
	}
	if from > 0 {
		values.Set("from", strconv.Itoa(from))
	}
	return "?" + values.Encode()
}

// matches says whether the query shows a group.
func (q query) matches(g groupstore.Group) bool {
	return shown[q.show](g) && (q.text == "" || strings.Contains(g.Key().String(), q.text))
}

// rejected says whether the last push to the group was.
func rejected(g groupstore.Group) bool { return g.FailureTime().After(g.PushTime()) }

// groupList is the part of the page about groups.
type groupList struct {
	Groups   []groupRow
	Text     string
	Show     string
	Matching int // how many groups the query matches
	First    int // the number of the first one shown, from 1
	Last     int
	Previous string // links; empty at the ends
	Next     string
}

type groupRow struct {
	Labels      []grouping.Label // the job first
	Path        string           // of its pushes
	Pushed      moment
	Rejected    bool
	RejectedAt  moment
	Reason      string // of the last rejection
	Quarantined string
	Hidden      int    // families in quarantine
	State       string // empty for one that is not worth telling
	Due         moment // zero if no push is expected
	Expires     moment // zero for never
	Late        bool
	Expired     bool
	DeclaredBy  string
	JobFailure  string
	Series      int
	FamilyCount int
	Families    []familyRow
	More        int    // families that are not shown
	Alone       string // link to this group alone, if that shows more
}

type familyRow struct {
	Name, Type, Help string
	Series           int
	Pushed           moment
	Quarantined      string
}

func (h *Handler) newGroupList(view *groupstore.View, q query, now time.Time) groupList {
	onPage := make([]groupstore.Group, 0, groupsPerPage)
	matching := 0
	for g := range view.Groups() {
		if !q.matches(g) {
			continue
		}
		if matching >= q.from && len(onPage) < groupsPerPage {
			onPage = append(onPage, g)
		}
		matching++
	}
	list := groupList{Text: q.text, Show: q.show, Matching: matching, First: q.from + 1, Last: q.from + len(onPage)}
	if q.from > 0 {
		list.Previous = q.link(max(q.from-groupsPerPage, 0))
	}
	if list.Last < matching {
		list.Next = q.link(list.Last)
	}
	room := familiesPerPage
	for _, g := range onPage {
		most := min(room, familiesPerGroup)
		if len(onPage) == 1 {
			most = room
		}
		row := h.newGroupRow(g, most, now)
		room -= len(row.Families)
		if row.More > 0 && len(onPage) > 1 {
			row.Alone = query{text: g.Key().String()}.link(0)
		}
		list.Groups = append(list.Groups, row)
	}
	return list
}

// newGroupRow returns a group with at most so many of its families. What it has of the store is not among them: the row says it.
func (h *Handler) newGroupRow(g groupstore.Group, most int, now time.Time) groupRow {
	row := groupRow{
		Labels: jobFirst(g.Key()), Path: h.cfg.RoutePrefix + "/metrics/" + g.Key().PathFor(h.cfg.Names),
		Pushed: momentOf(g.PushTime(), now), Rejected: rejected(g), RejectedAt: momentOf(g.FailureTime(), now),
		Reason: g.FailureReason(), Quarantined: g.Quarantined(), Series: g.Series(),
		Due: momentOf(g.Due(), now), Expires: momentOf(g.Expires(), now), Late: g.IsLate(), Expired: g.HasExpired(), DeclaredBy: g.DeclaredBy(), JobFailure: g.JobFailure(),
	}
	if state := g.State(); state != groupstore.StateOK && !row.Rejected {
		row.State = state.String()
	}
	for f := range g.Families() {
		if series.IsOfStore(f.Name()) {
			continue
		}
		row.FamilyCount++
		if f.Quarantined() != "" {
			row.Hidden++
		}
		if len(row.Families) < most {
			row.Families = append(row.Families, familyRow{
				Name: f.Name(), Type: f.Type().String(), Help: f.Help(), Series: f.Series(),
				Pushed: momentOf(f.PushTime(), now), Quarantined: f.Quarantined(),
			})
		}
	}
	row.More = row.FamilyCount - len(row.Families)
	return row
}

func jobFirst(key grouping.Key) []grouping.Label {
	labels := key.Labels()
	job := slices.IndexFunc(labels, func(l grouping.Label) bool { return l.Name == "job" })
	if job > 0 {
		first := labels[job]
		labels = slices.Insert(slices.Delete(labels, job, job+1), 0, first)
	}
	return labels
}
