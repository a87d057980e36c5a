package web

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/common/route"

	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/recent"
	"pushrelay/internal/series"
	"pushrelay/internal/webpage"
)

// groupContent is what the page of one group shows.
type groupContent struct {
	groupRow

	LabelLinks   []labelLink
	Path         string // of its pushes
	Agent        string // whose it is; empty for nobody's
	AgentLink    string // below the root
	Rejected     bool
	RejectedAt   webpage.Moment
	Reason       string // of the last refusal
	JobFailure   string
	Quarantined  string
	Late         bool
	Expired      bool
	DeclaredBy   string
	Pushes       []pushRow
	FamilyCount  int
	Families     []family
	MoreFamilies int
	Delete       string // where it is deleted, from the root; empty if that is not for who asks
	Refusal      string
	Root         string
}

type labelLink struct {
	grouping.Label

	Link string // to all groups that have it, below the root
}

// A pushRow is one of the last pushes.
type pushRow struct {
	At       webpage.Moment
	What     string
	Taken    bool
	Outcome  string
	Detail   string
	Bytes    string
	Duration string
}

var errNoKey = errors.New("the path names no group")

// keyOf reads the key in the path of a group's page: what stands behind it is what stands behind /metrics in the path of its pushes.
func (h *Handler) keyOf(labels string) (grouping.Key, error) {
	labels = strings.Trim(labels, "/")
	verb, rest, _ := strings.Cut(labels, "/")
	job, rest, _ := strings.Cut(rest, "/")
	path := grouping.Path{Job: job}
	if rest != "" {
		path.Labels = "/" + rest
	}
	switch verb {
	case "job":
	case "job" + grouping.Base64Suffix:
		path.JobBase64 = true
	default:
		return grouping.Key{}, errNoKey
	}
	return grouping.FromPath(path, h.cfg.Names)
}

func (h *Handler) showGroup(w http.ResponseWriter, r *http.Request) {
	labels := route.Param(r.Context(), "labels")
	depth := strings.Count(strings.TrimPrefix(r.URL.EscapedPath(), h.cfg.RoutePrefix+"/"), "/")
	key, err := h.keyOf(labels)
	h.show(w, r, depth, func(rights *Rights, now time.Time) webpage.Page {
		if err != nil {
			return missing("This address names no group: " + err.Error() + ".")
		}
		g, there := h.groupOf(rights, key)
		if !there {
			return h.noGroup(key, depth, rights, now)
		}
		c := h.newGroup(g, rights, now)
		c.Root = strings.Repeat("../", depth)
		return webpage.Page{Template: "group", Title: "Group " + key.Job(), Place: "Groups", Topics: topicGroups, Content: c}
	})
}

// noGroup is the page of a group that is not there. Pushes to it may have been refused.
func (h *Handler) noGroup(key grouping.Key, depth int, rights *Rights, now time.Time) webpage.Page {
	p := missing("There is no such group: no push to it was taken, it was deleted, or is forgotten since it expired.")
	if rights.seesGroup(key) {
		if pushes := h.pushesOf(key, rights, now); pushes != nil {
			p = webpage.Page{Template: "nogroup", Title: "Group " + key.Job(), Place: "Groups", Content: noGroupContent{jobFirst(key), pushes, strings.Repeat("../", depth)}}
		}
	}
	p.Topics = topicGroups // it may come back while somebody looks
	return p
}

// noGroupContent is what is known of a group that is not there.
type noGroupContent struct {
	Labels []grouping.Label
	Pushes []pushRow
	Root   string
}

// pushesOf returns the last pushes to a group.
func (h *Handler) pushesOf(key grouping.Key, rights *Rights, now time.Time) (rows []pushRow) {
	for _, p := range h.cfg.Recent.Pushes(key) {
		rows = append(rows, newPushRow(p, rights, now))
	}
	return rows
}

// groupOf returns a group as somebody sees it.
func (h *Handler) groupOf(rights *Rights, key grouping.Key) (groupstore.Group, bool) {
	if !rights.seesGroup(key) {
		return groupstore.Group{}, false
	}
	return h.cfg.Store.Group(key)
}

func (h *Handler) newGroup(g groupstore.Group, rights *Rights, now time.Time) groupContent {
	c := groupContent{
		groupRow: h.newGroupRow(g, rights, now), Path: h.cfg.RoutePrefix + "/metrics/" + g.Key().PathFor(h.cfg.Names), Rejected: rejected(g),
		RejectedAt: webpage.MomentOf(g.FailureTime(), now), Reason: rights.told(g.FailureReason()), JobFailure: g.JobFailure(), Quarantined: rights.told(g.Quarantined()),
		Late: g.IsLate(), Expired: g.HasExpired(), DeclaredBy: g.DeclaredBy(), Refusal: rights.Refusal,
	}
	for _, l := range c.Labels {
		c.LabelLinks = append(c.LabelLinks, labelLink{l, "groups?" + url.Values{"q": {matcher(l.Name, l.Value)}}.Encode()})
	}
	if agent, has := g.Key().Get(h.cfg.AgentLabel); has && h.cfg.AgentLabel != "" {
		if _, known := h.agentFor(rights, agent); known {
			c.Agent, c.AgentLink = agent, agentLink(agent)
		}
	}
	c.Pushes = h.pushesOf(g.Key(), rights, now)
	room := valuesPerPage
	for f := range g.Families() {
		if series.IsOfStore(f.Name()) {
			continue
		}
		c.FamilyCount++
		if room <= 0 || len(c.Families) == familiesPerPage {
			continue
		}
		shown := newFamily(f, g.Key(), room, now)
		shown.Quarantined = rights.told(f.Quarantined())
		room -= shown.cost
		c.Families = append(c.Families, shown)
	}
	c.MoreFamilies = c.FamilyCount - len(c.Families)
	if rights.offersDeletion(g.Key()) {
		c.Delete = "groups/delete?" + url.Values{groupField: {c.Seen}}.Encode()
	}
	return c
}

func newPushRow(p recent.Push, rights *Rights, now time.Time) pushRow {
	row := pushRow{
		At: webpage.MomentOf(p.At, now), What: p.Operation.String(), Taken: p.IsTaken(), Outcome: "taken", Detail: rights.told(p.Detail),
		Bytes: webpage.Bytes(p.Bytes), Duration: webpage.Duration(p.Took),
	}
	switch {
	case p.Duplicate:
		row.Outcome = "known already"
	case p.Kind == change.Unchecked:
		row.Outcome = "taken unchecked"
	case !row.Taken:
		row.Outcome = "refused: " + p.Kind.Label()
	}
	return row
}
