package httpsd

import (
	"encoding/json"
	"net/http"

	"github.com/prometheus/common/model"

	"pushrelay/internal/policy"
)

// memberLabel is the name of a relay in its cluster.
const memberLabel = "__meta_relay_member"

// A Relay is one of several that are one service.
type Relay struct {
	// Name is the one that it has in the cluster.
	Name string
	// Address is where it serves HTTP, host:port.
	Address string
}

// ServeRelays returns the handler of GET /sd/relays: the relays of a cluster, for the one job that scrapes what each says of itself, at that path. A path
// is below the prefix of all routes, which is the same on all of them.
func (h *Handler) ServeRelays(path string, relays func() []Relay) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !policy.Permit(w, policy.UserOf(r.Context()).Status()) {
			return
		}
		groups := []targetGroup{}
		for _, m := range relays() {
			groups = append(groups, targetGroup{Targets: []string{m.Address}, Labels: map[string]string{
				model.SchemeLabel: h.self(r).scheme, model.MetricsPathLabel: h.cfg.RoutePrefix + path, model.InstanceLabel: m.Address, memberLabel: m.Name,
			}})
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(groups) //nolint:errcheck,errchkjson // The scraper that does not read its targets asks again.
	}
}
