package web

import (
	"net/http"
	"time"

	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/webpage"
)

// maxListed is how many groups are listed to be deleted at once.
const maxListed = 500

// deletionContent is what the page shows that asks whether groups are to be deleted.
type deletionContent struct {
	Query    string // as a link, the search
	Groups   []groupRow
	Matching int // how many there are
	More     int // how many of them are not listed
	OfAgents int
	Problem  string
	Token    string
	Refusal  string
}

// showDeletion lists the groups that a search finds, or the one that it names, for somebody to confirm that they are to be deleted.
func (h *Handler) showDeletion(w http.ResponseWriter, r *http.Request) {
	query := webpage.Known(r.URL.Query(), "q", "state", groupField)
	h.show(w, r, 1, func(rights *Rights, now time.Time) webpage.Page {
		c := deletionContent{Query: webpage.With(query, groupField, ""), Token: h.token(rights), Refusal: rights.Refusal}
		p := webpage.Page{Template: "deletion", Title: "Delete groups", Place: "Groups"}
		only := grouping.Key{}
		if text := query.Get(groupField); text != "" {
			key, _, err := readSeen(text)
			if err != nil {
				c.Problem = "The link does not name a group: " + err.Error()
				p.Status, p.Content = http.StatusBadRequest, c
				return p
			}
			only = key
		}
		if only.IsZero() && query.Get("q") == "" && query.Get("state") == "" {
			c.Problem = "All groups at once are not deleted here. Look for those that are meant first."
			p.Status, p.Content = http.StatusBadRequest, c
			return p
		}
		groups, err := h.find(r.Context(), rights, query)
		if err != nil {
			c.Problem = err.Error()
			p.Status, p.Content = http.StatusBadRequest, c
			return p
		}
		for _, g := range groups {
			if rights.offersDeletion(g.Key()) && (only.IsZero() || g.Key() == only) {
				c.list(h, g, rights, now)
			}
		}
		p.Content = c
		return p
	})
}

func (c *deletionContent) list(h *Handler, g groupstore.Group, rights *Rights, now time.Time) {
	c.Matching++
	if len(c.Groups) == maxListed {
		c.More++
		return
	}
	if _, has := g.Key().Get(h.cfg.AgentLabel); has && h.cfg.AgentLabel != "" {
		c.OfAgents++
	}
	c.Groups = append(c.Groups, h.newGroupRow(g, rights, now))
}
