package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"pushrelay/internal/lifetime"
)

// BenchmarkPages is what the relay does for a page, without what a browser does with it.
func BenchmarkPages(b *testing.B) {
	for _, n := range []int{200, 10_000, 100_000} {
		s := newSite(b)
		for i := range n {
			s.pushLiving(time.Hour, "", lifetime.Texts{Every: "24h"}, "job", "j", "instance", fmt.Sprint(i))
		}
		for _, path := range []string{"/", "/groups"} {
			b.Run(fmt.Sprint(path, n), func(b *testing.B) {
				for b.Loop() {
					w := httptest.NewRecorder()
					r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, prefix+path, nil)
					r.Header.Set("Accept-Encoding", "gzip")
					s.handler.ServeHTTP(w, r)
				}
			})
		}
	}
}
