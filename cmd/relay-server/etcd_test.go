package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEndpointsOf(t *testing.T) {
	for name, tt := range map[string]struct {
		given  []string
		secure bool
		want   []string
	}{
		"none":              {},
		"repeated":          {[]string{"a:1", "b:2"}, false, []string{"http://a:1", "http://b:2"}},
		"with commas":       {[]string{"a:1, b:2,", "c:3"}, true, []string{"https://a:1", "https://b:2", "https://c:3"}},
		"with their scheme": {[]string{"https://a:1,http://b:2"}, false, []string{"https://a:1", "http://b:2"}},
	} {
		if diff := cmp.Diff(tt.want, endpointsOf(tt.given, tt.secure)); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}
}
