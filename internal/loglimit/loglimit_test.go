package loglimit_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pushrelay/internal/loglimit"
)

// TestLog: a peer that is loud has few lines, which say what was left out; another one has its own.
func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		logger, l := slog.New(slog.NewTextHandler(&out, nil)), loglimit.New()
		say := func(peer string, times int) []string {
			out.Reset()
			for range times {
				l.Log(logger, slog.LevelInfo, peer, "it came", slog.String("agent", peer))
			}
			return strings.Split(strings.TrimSpace(out.String()), "\n")
		}
		if lines := say("loud", 1000); len(lines) != 20 || strings.Contains(out.String(), "suppressed") {
			t.Errorf("%d lines of 1000:\n%s", len(lines), out.String())
		}
		if lines := say("quiet", 5); len(lines) != 5 {
			t.Errorf("%d lines of 5 of another one", len(lines))
		}
		time.Sleep(time.Minute)
		lines := say("loud", 1000)
		if len(lines) != 6 || !strings.Contains(lines[0], "suppressed=980") || strings.Contains(lines[1], "suppressed") {
			t.Errorf("a minute later:\n%s", out.String())
		}
	})
}

// TestHandler: each message of what logs by itself has its bound.
func TestHandler(t *testing.T) {
	var out bytes.Buffer
	logger := slog.New(loglimit.New().Handler(slog.NewTextHandler(&out, nil))).With(slog.String("component", "x"))
	for range 100 {
		logger.Error("it is broken")
	}
	logger.Info("it stopped")
	if text := out.String(); strings.Count(text, "it is broken") != 20 || !strings.Contains(text, "it stopped") || strings.Count(text, "component=x") != 21 {
		t.Errorf("the log is:\n%s", text)
	}
}

// TestPeersThatAreQuietAreForgotten: what is kept of peers does not grow with all that there ever were.
func TestPeersThatAreQuietAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logger, l := slog.New(slog.DiscardHandler), loglimit.New()
		for i := range 10_000 {
			l.Log(logger, slog.LevelInfo, fmt.Sprint(i), "it came")
			time.Sleep(every)
		}
		if kept := loglimit.Peers(l); kept > 100 {
			t.Errorf("%d peers are remembered", kept)
		}
	})
}

// every is longer than a peer takes to have all its lines again.
const every = 11 * time.Second
