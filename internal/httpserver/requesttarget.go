package httpserver

import (
	"net/http"
)

// refuseOtherSchemes answers 400 to a request whose first line has a URL that is none of HTTP's, or names no host: net/http hands it on, and whoever
// serves by host or path alone would take ftp://host/metrics for http://host/metrics.
func refuseOtherSchemes(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u := r.URL; u.Scheme != "" && (u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
			http.Error(w, "the URL "+told(r.RequestURI)+" is none of http or https with a host", http.StatusBadRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}
