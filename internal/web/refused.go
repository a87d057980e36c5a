package web

import (
	"net/http"
	"time"

	"pushrelay/internal/grouping"
	"pushrelay/internal/webpage"
)

// refusedContent is what the page shows of pushes that were not taken.
type refusedContent struct {
	Rows     []refusedRow
	IsNarrow bool // there may be some that they do not see
}

type refusedRow struct {
	pushRow

	Labels []grouping.Label
	Link   string // to the page of the group, below the root; empty where the push was to none
}

// showRefused lists the last pushes that were not taken, those to groups that are not there among them.
func (h *Handler) showRefused(w http.ResponseWriter, r *http.Request) {
	h.show(w, r, 0, func(rights *Rights, now time.Time) webpage.Page {
		c := refusedContent{IsNarrow: rights.SeesGroup != nil}
		for _, p := range h.cfg.Recent.Refusals() {
			row := refusedRow{pushRow: newPushRow(p.Push, rights, now)}
			switch {
			case !p.Key.IsZero() && rights.seesGroup(p.Key):
				row.Labels, row.Link = jobFirst(p.Key), h.groupLink(p.Key)
			case c.IsNarrow:
				continue
			}
			c.Rows = append(c.Rows, row)
		}
		return webpage.Page{Template: "refused", Title: "Refused pushes", Place: "Groups", Topics: topicGroups, Content: c}
	})
}
