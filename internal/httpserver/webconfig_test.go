package httpserver_test

import (
	"reflect"
	"slices"
	"testing"

	"github.com/prometheus/exporter-toolkit/web"

	"pushrelay/internal/httpserver"
)

// TestConfigKeys: they are those that the toolkit reads.
func TestConfigKeys(t *testing.T) {
	var keys []string
	for field := range reflect.TypeFor[web.Config]().Fields() {
		keys = append(keys, field.Tag.Get("yaml"))
	}
	if got := httpserver.ConfigKeys(); !slices.Equal(got, keys) {
		t.Errorf("ConfigKeys() = %q, want %q", got, keys)
	}
}
