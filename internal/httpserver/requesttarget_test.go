package httpserver_test

import (
	"strings"
	"testing"
)

// TestOtherSchemes: a URL in the first line is one of http or https with a host, or the request is refused with what it has.
func TestOtherSchemes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		line string
		want int
	}{
		{"GET /metrics", 200},
		{"GET http://db:9100/metrics", 200},
		{"GET HTTPS://db:9100/metrics", 200},
		{"OPTIONS *", 200},
		{"CONNECT db:443", 200}, // refused, if at all, by whoever serves
		{"GET ftp://db:9100/metrics", 400},
		{"PUT ftp://db:9100/metrics/job/j", 400},
		{"GET ws://db:9100/metrics", 400},
		{"GET file:///etc/passwd", 400},
		{"GET http:///metrics", 400},
		{"GET http:metrics", 400},
		{"GET javascript:alert(1)", 400},
	} {
		for socket, dial := range listeners(t, taken) {
			answer, err := exchange(t, dial, tt.line+" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
			if err != nil {
				t.Fatal(err)
			}
			_, target, _ := strings.Cut(tt.line, " ")
			status, text := statusOf(t, answer)
			if status != tt.want || status == 400 && (!strings.Contains(text, target) || !strings.Contains(text, "http")) {
				t.Errorf("%s: %s is answered %d %q, want %d", socket, tt.line, status, text, tt.want)
			}
		}
	}
}
