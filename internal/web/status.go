package web

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"pushrelay/internal/groupstore"
	"pushrelay/internal/webpage"
)

type statusContent struct {
	Flags, Build []option
	Started      webpage.Moment
	Stats        groupstore.Stats
	Health       Health
	Certificate  webpage.Moment
	Telemetry    string // link to the exposition
}

func (h *Handler) showStatus(w http.ResponseWriter, r *http.Request) {
	h.show(w, r, 0, func(rights *Rights, now time.Time) webpage.Page {
		if rights.HidesStatus {
			return notForYou()
		}
		health := h.cfg.Health()
		return webpage.Page{Template: "status", Title: "Status", Place: "Status", Topics: topicGroups, Content: statusContent{
			Flags: sorted(h.cfg.Flags), Build: sorted(h.cfg.Build), Started: webpage.MomentOf(h.cfg.StartedAt, now), Stats: h.cfg.Store.Stats(),
			Health: health, Certificate: webpage.MomentOf(health.CertificateNotAfter, now), Telemetry: strings.TrimPrefix(h.cfg.TelemetryPath, "/"),
		}}
	})
}

func sorted(values map[string]string) []option {
	list := make([]option, 0, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		list = append(list, option{name, values[name]})
	}
	return list
}
