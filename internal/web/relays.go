package web

import (
	"net/http"
	"time"

	"pushrelay/internal/webpage"
)

// relaysContent is what the page of the cluster shows.
type relaysContent struct {
	webpage.Pager

	Mark, Verdict string
	Troubles      []attention
	View          *ClusterView
	LastHeard     webpage.Moment
	Lag           string
	Clock         string // how far it is ahead of this relay's
	Members       []memberRow
}

type memberRow struct {
	ClusterMember

	Self, Leader bool
	Counts       string // for a majority
	Since        webpage.Moment
	Behind       string
}

func (h *Handler) showRelays(w http.ResponseWriter, r *http.Request) {
	query := webpage.Known(r.URL.Query(), "from")
	h.show(w, r, 0, func(rights *Rights, now time.Time) webpage.Page {
		if rights.HidesStatus {
			return notForYou()
		}
		v := h.cfg.Cluster()
		c := relaysContent{View: v, Troubles: v.troubles(now), LastHeard: webpage.MomentOf(v.LastHeard, now), Lag: webpage.Span(v.Lag), Verdict: v.verdict()}
		if !v.Clock.IsZero() {
			c.Clock = skewWords(v.Clock.Sub(now))
		}
		if len(c.Troubles) > 0 {
			c.Mark = c.Troubles[0].class()
		}
		var from, to int
		c.Pager, from, to = webpage.NewPager(query, len(v.Members), perPage)
		for _, m := range v.Members[from:to] {
			row := memberRow{ClusterMember: m, Self: m.Name == v.Name, Leader: m.Name == v.Leader, Counts: m.Role.words(), Since: webpage.MomentOf(m.Since, now)}
			if m.Behind != nil {
				row.Behind = webpage.Count(*m.Behind)
			}
			c.Members = append(c.Members, row)
		}
		return webpage.Page{Template: "relays", Title: "Relays", Place: "Relays", Topics: topicRelays, Content: c}
	})
}
