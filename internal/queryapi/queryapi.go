// Package queryapi answers questions about the relay in JSON, under /api/v1: those of the Pushgateway's API, in its own
// shapes, and the relay's own about agents.
//
// It promises that an answer costs the relay no more memory than a piece of it, however full the store is, and that
// whatever it says beside the Pushgateway's fields stands where no metric name can collide with it. It only reads, but for
// the forgetting of departed agents and the deleting of groups by selectors. It knows no gRPC. Start reading at [Metrics], [Groups], [Status] and
// [Agents].
package queryapi

import (
	"encoding/json"
	"errors"
	"net/http"

	"pushrelay/internal/policy"
)

// cors lets pages of other origins read the API, as a Pushgateway does.
var cors = [...]struct{ name, value string }{
	{"Access-Control-Allow-Headers", "Accept, Authorization, Content-Type, Origin"},
	{"Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS"},
	{"Access-Control-Allow-Origin", "*"},
	{"Access-Control-Expose-Headers", "Date"},
	{"Cache-Control", "no-cache, no-store, must-revalidate"},
}

// Shared wraps a handler of the API whose answers pages of any origin may read, and nobody may keep.
func Shared(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for _, header := range cors {
			w.Header().Set(header.name, header.value)
		}
		h(w, r)
	}
}

// Options serves OPTIONS of every path of the API, known or not: browsers ask so before they ask in earnest.
func Options() http.HandlerFunc {
	return Shared(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
}

// answer is the envelope of every answer.
type answer struct {
	Status    string `json:"status"`
	Data      any    `json:"data,omitempty"`
	ErrorType string `json:"errorType,omitempty"`
	Error     string `json:"error,omitempty"`
}

// permit answers 403 with a refusal, or returns true if there is none.
func permit(w http.ResponseWriter, refused *policy.Refusal) bool {
	if refused == nil {
		return true
	}
	respondError(w, http.StatusForbidden, "forbidden", errors.New(refused.Denial()))
	return false
}

func respond(w http.ResponseWriter, data any) {
	write(w, http.StatusOK, answer{Status: "success", Data: data})
}

func respondError(w http.ResponseWriter, status int, kind string, err error) {
	write(w, status, answer{Status: "error", ErrorType: kind, Error: err.Error()})
}

func write(w http.ResponseWriter, status int, a answer) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(a) //nolint:errcheck,errchkjson // Whoever does not read the answer asks again.
}
