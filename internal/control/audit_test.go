package control_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"pushrelay/internal/control"
	"pushrelay/internal/ledger"
	"pushrelay/internal/relayapi"
)

// TestAudit: each change of who may come in is one line with a key of its own, and certificates are counted by how they came to be issued.
func TestAudit(t *testing.T) {
	f := newFixture(t, nil)
	var log bytes.Buffer
	f.cfg.Logger, f.cfg.Registerer = slog.New(slog.NewTextHandler(&log, nil)), prometheus.NewRegistry()
	c := control.New(f.cfg)
	told := func() (lines []string) {
		for line := range strings.Lines(log.String()) {
			_, audit, _ := strings.Cut(strings.TrimSpace(line), " audit=")
			lines = append(lines, audit)
		}
		log.Reset()
		return lines
	}
	want := func(what string, lines ...string) {
		t.Helper()
		if diff := cmp.Diff(lines, told()); diff != "" {
			t.Errorf("%s is told (-want +got):\n%s", what, diff)
		}
	}
	made, err := c.MakeToken(relayapi.NewToken{Name: "site-", Prefix: true, Replace: true, Uses: 7, TTLSeconds: 3600})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(log.String(), made.Text) {
		t.Error("the log has the token's secret")
	}
	want("a token", "token_made token="+made.ID+" agent=site- prefix=true replace=true uses=7 ends="+made.EndsAt.Format("2006-01-02T15:04:05.000Z"))
	if _, err := c.VoidToken(made.ID); err != nil {
		t.Fatal(err)
	}
	want("the end of a token", "token_voided token="+made.ID+" agent=site-")
	if err := c.Forget("site-b"); err != nil {
		t.Fatal(err)
	}
	want("that an agent is forgotten", "forgotten agent=site-b")
	for _, failed := range []error{c.Forget("site-a"), second(c.VoidToken(made.ID))} {
		if failed == nil {
			t.Error("what cannot be done is done")
		}
	}
	want("what is not done")

	at := time.Date(2026, 12, 1, 10, 0, 0, 0, time.UTC)
	c.Issued(ledger.Certificate{Agent: "site-a", Serial: "a1", To: at, By: ledger.ByToken, Token: made.ID, Address: "192.0.2.1:4711"})
	c.Issued(ledger.Certificate{Agent: "site-a", Serial: "a2", To: at, By: ledger.ByRenewal, Parent: "a1", Address: "192.0.2.1:4711"})
	c.Issued(ledger.Certificate{Agent: "site-a", Serial: "a3", To: at, By: ledger.ByRenewal, Parent: "a2", Address: "192.0.2.1:4711"})
	c.Issued(ledger.Certificate{Agent: "site-c", Serial: "c1", To: at, By: ledger.ByCommand})
	want("what was issued",
		"issued agent=site-a serial=a1 by=token token="+made.ID+` renewed="" addr=192.0.2.1:4711 not_after=2026-12-01T10:00:00.000Z`,
		`issued agent=site-a serial=a2 by=renewal token="" renewed=a1 addr=192.0.2.1:4711 not_after=2026-12-01T10:00:00.000Z`,
		`issued agent=site-a serial=a3 by=renewal token="" renewed=a2 addr=192.0.2.1:4711 not_after=2026-12-01T10:00:00.000Z`,
		`issued agent=site-c serial=c1 by=command token="" renewed="" addr="" not_after=2026-12-01T10:00:00.000Z`)
	const counted = `
# HELP relay_certificates_issued_total Certificates of agents that were issued and noted by the running relay, by how: command, token or renewal.
# TYPE relay_certificates_issued_total counter
relay_certificates_issued_total{by="command"} 1
relay_certificates_issued_total{by="renewal"} 2
relay_certificates_issued_total{by="token"} 1
`
	if err := testutil.GatherAndCompare(f.cfg.Registerer.(*prometheus.Registry), strings.NewReader(counted), "relay_certificates_issued_total"); err != nil {
		t.Error(err)
	}
}

func second[A any](_ A, err error) error { return err }
