package web

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"pushrelay/internal/grouping"
	"pushrelay/internal/httpserver"
	"pushrelay/internal/roster"
)

// The routes of what the pages change, all of them POST. They stand before the router, and so not in it.
const (
	deletionPath = "/groups/delete"
	forgetPath   = "/agents/:agent/forget"
)

const (
	// maxChangeBytes bounds what a page sends. It sends less at once, since proxies take no more than a megabyte.
	maxChangeBytes = 1 << 20
	// groupField is the field of a form that names a group in the version in which it was seen.
	groupField = "group"
)

// A change of a page says what it did, in words for its reader, or why it did not.
type changed struct {
	Counts map[string]int `json:"counts,omitempty"`
	Note   string         `json:"note,omitempty"`
	Error  string         `json:"error,omitempty"`
}

// TakeChanges serves what the pages change, and leaves all else to next. It stands before what judges pages by where they say that they are from.
func (h *Handler) TakeChanges(next http.Handler) http.Handler {
	deletions := h.cfg.RoutePrefix + deletionPath
	agents, forget, _ := strings.Cut(h.cfg.RoutePrefix+forgetPath, ":agent")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			next.ServeHTTP(w, r)
			return
		}
		agent, forgets := strings.CutSuffix(r.URL.Path, forget)
		agent, below := strings.CutPrefix(agent, agents)
		switch {
		case r.URL.Path == deletions:
			h.change(w, r, h.deleteGroups)
		case forgets && below && agent != "" && !strings.Contains(agent, "/"):
			h.change(w, r, func(rights *Rights, _ *http.Request) (int, changed) { return h.forgetAgent(rights, agent) })
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// change makes a change of a page of ours.
func (h *Handler) change(w http.ResponseWriter, r *http.Request, do func(*Rights, *http.Request) (int, changed)) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	status, done := http.StatusForbidden, changed{Error: "this does not come from a page of this relay, or the relay was started again since the page was loaded: load the page again"}
	rights := h.cfg.Rights(r)
	if h.isOurs(r, &rights) {
		r.Body = http.MaxBytesReader(w, r.Body, maxChangeBytes)
		status, done = do(&rights, r)
	}
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(done) //nolint:errcheck,errchkjson // Whoever does not read the answer sees what became of it on the page.
}

func (h *Handler) deleteGroups(rights *Rights, r *http.Request) (int, changed) {
	if err := r.ParseForm(); err != nil {
		return http.StatusBadRequest, changed{Error: fmt.Sprintf("the form cannot be read: %v", err)}
	}
	versions := map[string]uint64{}
	for _, text := range r.PostForm[groupField] {
		key, version, err := readSeen(text)
		if err != nil {
			return http.StatusBadRequest, changed{Error: fmt.Sprintf("a group cannot be read: %v", err)}
		}
		if err := rights.mayDelete(key); err != nil {
			return http.StatusForbidden, changed{Error: err.Error()}
		}
		versions[key.Canonical()] = version
	}
	if len(versions) == 0 {
		return http.StatusBadRequest, changed{Error: "no group is chosen"}
	}
	done, err := h.cfg.Deleter.DeleteSeen(httpserver.Outlasting(r.Context()), versions)
	counts := map[string]int{"deleted": done.Deleted, "pushed to or deleted meanwhile, and left": len(versions) - done.Selected + done.Changed}
	if err != nil {
		return http.StatusServiceUnavailable, changed{Counts: counts, Error: err.Error()}
	}
	return http.StatusOK, changed{Counts: counts, Note: sentence(done.Note)}
}

func (h *Handler) forgetAgent(rights *Rights, agent string) (int, changed) {
	if err := rights.mayForget(agent); err != nil {
		return http.StatusForbidden, changed{Error: err.Error()}
	}
	err := h.cfg.Agents.Forget(agent)
	switch {
	case err == nil:
		return http.StatusOK, changed{Counts: map[string]int{"agent forgotten": 1}, Note: "Its groups stay."}
	case errors.Is(err, roster.ErrUnknown):
		return http.StatusNotFound, changed{Error: err.Error()}
	default:
		return http.StatusConflict, changed{Error: err.Error()}
	}
}

// seen writes a group in the version in which it is shown, for a form.
func seen(key grouping.Key, version uint64) string {
	return base64.RawURLEncoding.EncodeToString([]byte(key.Canonical())) + "." + strconv.FormatUint(version, 10)
}

func readSeen(text string) (grouping.Key, uint64, error) {
	encoded, number, _ := strings.Cut(text, ".")
	version, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return grouping.Key{}, 0, err
	}
	canonical, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return grouping.Key{}, 0, err
	}
	key, err := grouping.FromCanonical(string(canonical))
	return key, version, err
}

// sentence returns words as a sentence.
func sentence(words string) string {
	if words == "" {
		return ""
	}
	return strings.ToUpper(words[:1]) + words[1:] + "."
}
