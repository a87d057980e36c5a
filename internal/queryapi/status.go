package queryapi

import (
	"net/http"
	"time"

	"github.com/prometheus/common/version"
)

// statusJSON is the answer to GET /api/v1/status.
type statusJSON struct {
	Build     map[string]string `json:"build_information"`
	Flags     map[string]string `json:"flags"`
	StartTime time.Time         `json:"start_time"`
}

// Build returns what is known of how the program was built, by the names of the Pushgateway's API.
func Build() map[string]string {
	return map[string]string{
		"branch":    version.Branch,
		"buildDate": version.BuildDate,
		"buildUser": version.BuildUser,
		"goVersion": version.GoVersion,
		"revision":  version.GetRevision(),
		"version":   version.Version,
	}
}

// Status serves GET /api/v1/status. Flags are all flags of the program as text, by name; startedAt is when it started.
func Status(flags map[string]string, startedAt time.Time) http.HandlerFunc {
	if flags == nil {
		flags = map[string]string{}
	}
	status := statusJSON{Build: Build(), Flags: flags, StartTime: startedAt}
	return Shared(func(w http.ResponseWriter, _ *http.Request) { respond(w, status) })
}
