package mtls_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pushrelay/internal/mtls"
)

const day = 24 * time.Hour

// watched is a certificate that a running reloader watches, with what it logs.
type watched struct {
	t     *testing.T
	log   logBuffer
	files mtls.Files
	ca    *authority
}

// logBuffer keeps what is logged: the reloader writes while the test reads.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// take returns what was logged since the last call.
func (l *logBuffer) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.buf.Reset()
	return l.buf.String()
}

// watch runs a reloader in the bubble of the test. The function that it returns ends it.
func watch(t *testing.T, left time.Duration) (*watched, func()) {
	t.Helper()
	w := &watched{t: t, ca: newAuthority(t, "our CA")}
	w.files = writeFiles(t, w.issue(left), w.ca.pem())
	r, err := mtls.NewReloader(mtls.Config{
		Role: mtls.Agent, Files: w.files, Renewal: "issue it again", Logger: slog.New(slog.NewTextHandler(&w.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	return w, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run() = %v, want nil at the end of its context", err)
		}
	}
}

// issue makes a certificate for a year, of which so much is left.
func (w *watched) issue(left time.Duration) pair {
	w.t.Helper()
	return w.ca.sign(w.t, agentTemplate("site", validity(min(left-365*day, -time.Hour), left)))
}

// wantWarnings checks how often a warning was logged, and what each of them says.
func (w *watched) wantWarnings(when string, n int, words ...string) {
	w.t.Helper()
	synctest.Wait()
	count, log := 0, w.log.take()
	for line := range strings.Lines(log) {
		if !strings.Contains(line, "level=WARN") {
			continue
		}
		count++
		for _, word := range words {
			if !strings.Contains(line, word) {
				w.t.Errorf("%s: a warning without %q: %s", when, word, line)
			}
		}
	}
	if count != n {
		w.t.Errorf("%s: %d warnings, want %d:\n%s", when, count, n, log)
	}
}

func TestCertificateThatEndsSoonIsToldDaily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, stop := watch(t, 40*day)
		defer stop()
		words := []string{"ends soon", w.files.CertFile, fmt.Sprintf("not_after=%s", time.Now().Add(40*day).UTC().Format("2006-01-02T15:04")), "issue it again"}
		time.Sleep(10*day - time.Hour)
		w.wantWarnings("more than 30 days before", 0)
		time.Sleep(time.Hour + time.Minute)
		w.wantWarnings("30 days before", 1, words...)
		time.Sleep(3 * day)
		w.wantWarnings("three days later", 3, words...)

		// Another that ends soon is told at once, and then a day later.
		replacePair(t, w.files, w.issue(10*day))
		time.Sleep(2 * time.Minute)
		w.wantWarnings("with another that ends soon", 1, "ends soon")
		time.Sleep(day)
		w.wantWarnings("a day later", 1, "ends soon")

		replacePair(t, w.files, w.issue(365*day))
		time.Sleep(2 * time.Minute)
		w.wantWarnings("with one for a year", 0)
		time.Sleep(10 * day)
		w.wantWarnings("in its time", 0)
	})
}

func TestCertificateThatHasEndedIsToldDaily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, stop := watch(t, time.Hour)
		defer stop()
		w.wantWarnings("at the start", 1, "ends soon")
		time.Sleep(3*day + time.Hour)
		w.wantWarnings("after its end", 3, "has ended", "issue it again")
	})
}

// What lives for a short time is no cause for concern all its life: in its last third it is.
func TestShortLivesAreToldInTheirLastThird(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, stop := watch(t, 365*day)
		defer stop()
		replacePair(t, w.files, w.ca.sign(t, agentTemplate("site", validity(0, 30*day))))
		time.Sleep(20*day - time.Hour)
		w.wantWarnings("in its first two thirds", 0)
		time.Sleep(day)
		w.wantWarnings("in its last third", 1, "ends soon")

		replacePair(t, w.files, w.ca.sign(t, agentTemplate("site", validity(0, day))))
		time.Sleep(15 * time.Hour)
		w.wantWarnings("with one for a day", 0)
		time.Sleep(2 * time.Hour)
		w.wantWarnings("in the last third of the day", 1, "ends soon")
	})
}

// A change is taken over, and told, though nobody shakes hands or asks for a metric.
func TestChangeIsSeenThoughNobodyAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, stop := watch(t, 365*day)
		defer stop()
		replacePair(t, w.files, w.issue(366*day))
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		log := w.log.take()
		if n := strings.Count(log, "certificate files reloaded"); n != 1 {
			t.Errorf("the change was told %d times, want once:\n%s", n, log)
		}
	})
}

func replacePair(t *testing.T, files mtls.Files, p pair) {
	t.Helper()
	replaceFile(t, files.CertFile, p.cert)
	replaceFile(t, files.KeyFile, p.key)
}
