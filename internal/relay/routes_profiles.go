package relay

import (
	"net/http"
	"net/http/pprof"
	"strings"
)

// profiles serves Go's runtime profiles. They cost time and show much of a program, and this one is meant to stand in
// public: they are served only where whoever reaches the relay may end it as well.
func (s *Server) profiles(prefix string) http.HandlerFunc {
	if !s.opts.EnableLifecycle {
		return func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "Profiles are served with --web.enable-lifecycle only.", http.StatusForbidden)
		}
	}
	return admin("read its profiles", func(w http.ResponseWriter, r *http.Request) {
		switch strings.TrimPrefix(r.URL.Path, prefix+"/debug/pprof/") {
		case "cmdline":
			pprof.Cmdline(w, r)
		case "profile":
			pprof.Profile(w, r)
		case "symbol":
			pprof.Symbol(w, r)
		default:
			http.StripPrefix(prefix, http.HandlerFunc(pprof.Index)).ServeHTTP(w, r)
		}
	})
}
