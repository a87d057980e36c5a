package engine_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"go.uber.org/zap"

	"pushrelay/internal/cluster/engine"
)

// TestLogger: what etcd warns of is in our log, with its fields; what it says besides is not.
func TestLogger(t *testing.T) {
	var out bytes.Buffer
	logger := engine.NewLogger(slog.New(slog.NewTextHandler(&out, nil))).With(zap.String("member", "a"))
	logger.Info("all is well")
	logger.Warn("slow fdatasync", zap.Int("ms", 7))
	logger.Error("broken")
	got := out.String()
	for _, want := range []string{"level=WARN", `etcd="slow fdatasync" member=a ms=7`, "level=ERROR", "etcd=broken member=a"} {
		if !strings.Contains(got, want) {
			t.Errorf("the log has no %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "all is well") {
		t.Errorf("the log has what nobody wants:\n%s", got)
	}
}
