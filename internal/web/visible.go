package web

import (
	"context"
	"net/http"
	"time"

	"pushrelay/internal/groupstore"
	"pushrelay/internal/policy"
	"pushrelay/internal/roster"
)

// visible is what of the relay a page shows: what the policy lets the request's user read.
type visible struct {
	groups       *groupstore.View
	stats        groupstore.Stats
	agents       []roster.Agent
	flags, build map[string]string
}

// selectTime is how long the groups of a user may be looked for.
const selectTime = 10 * time.Second

func (h *Handler) visibleTo(r *http.Request) (v visible, err error) {
	user := policy.UserOf(r.Context())
	v.agents = roster.Visible(h.cfg.Agents.Agents(), user.Sight())
	if user.SeesStatus() {
		v.flags, v.build = h.cfg.Flags, h.cfg.Build
	}
	if user == nil {
		v.groups, v.stats = h.cfg.Store.Snapshot(), h.cfg.Store.Stats()
		return v, nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), selectTime)
	defer cancel()
	v.groups, err = h.cfg.Store.Select(ctx, func(g groupstore.Group) bool { return user.Sees(g.Key()) })
	if err != nil {
		return v, err
	}
	v.stats = statsOf(v.groups)
	return v, nil
}

// statsOf returns the sizes of what a view shows, as far as a page tells them.
func statsOf(view *groupstore.View) (stats groupstore.Stats) {
	for g := range view.Groups() {
		stats.Groups++
		stats.Series += g.Series()
		if !g.HasQuarantined() {
			continue
		}
		for f := range g.Families() {
			if f.Quarantined() != "" {
				stats.Quarantined++
			}
		}
	}
	return stats
}
