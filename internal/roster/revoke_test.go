package roster_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/promslog"

	"pushrelay/internal/roster"
	"pushrelay/internal/scrape"
)

// TestEndRevoked: what is revoked ends at once, and nothing else; and it begins no session.
func TestEndRevoked(t *testing.T) {
	revoked := map[string]bool{}
	file := filepath.Join(t.TempDir(), "agents.json")
	r, err := roster.Open(roster.Config{
		File: file, ForgetAfter: time.Hour, MaxConcurrentScrapes: 2, Logger: promslog.NewNopLogger(), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	asking := func(certificate string) func() (string, bool) {
		return func() (string, bool) { return "thrown out", revoked[certificate] }
	}
	sessions := map[string]*session{}
	attachments := map[string]*roster.Attachment{}
	for _, name := range []string{"a", "b", "c"} {
		sessions[name] = &session{}
		attachments[name] = attach(r, roster.Registration{Agent: name, Session: sessions[name], Refused: asking(name + "/1"), Targets: set("t"), HasTargets: true})
	}
	attachments["c"].Close()
	revoked["a/1"], revoked["b/2"], revoked["c/1"] = true, true, true
	if got := r.EndRevoked(); got != 1 {
		t.Errorf("EndRevoked() = %d, want 1", got)
	}
	if attachments["a"].Current() || !attachments["b"].Current() || sessions["a"].revoked != "thrown out" || sessions["b"].revoked != "" {
		t.Errorf("sessions after that: %+v %+v", sessions["a"], sessions["b"])
	}
	if err := attachments["a"].SetTargets(set("t", "u")); err != nil {
		t.Fatal(err)
	}
	_, err = r.Register(roster.Registration{Agent: "a", Session: &session{}, Refused: asking("a/1")})
	if _, refused := errors.AsType[*roster.RevokedError](err); !refused {
		t.Errorf("Register() of one that is revoked: %v", err)
	}
	if a := r.Agents()[0]; a.Connected || len(a.Targets) != 1 {
		t.Errorf("what is known of it: %+v", a)
	}
	if got := [...]int{r.Unlist("a"), r.Unlist("a"), r.Unlist("b"), r.Unlist("nobody")}; got != [...]int{1, 0, 0, 0} {
		t.Errorf("Unlist() = %v", got)
	}
	if _, _, err := r.Find(scrape.Match{Instance: "t:1"}); err != nil { // of b and c
		t.Error(err)
	}
	if a := r.Agents()[0]; a.Name != "a" || len(a.Targets) != 0 {
		t.Errorf("without its targets: %+v", a)
	}
	if at := attach(r, roster.Registration{Agent: "a", Session: &session{}, Refused: asking("a/2")}); !at.Current() {
		t.Error("another certificate of it is refused")
	}
}

// TestScrapesOfRevokedAgents: whoever scrapes one that is thrown out hears that, and not only that there is nobody.
func TestScrapesOfRevokedAgents(t *testing.T) {
	out := map[string]bool{}
	r, err := roster.Open(roster.Config{
		ForgetAfter: time.Hour, MaxConcurrentScrapes: 2, Logger: promslog.NewNopLogger(), Registerer: prometheus.NewRegistry(),
		ThrownOut: func(agent string) (string, bool) { return "it was revoked yesterday", out[agent] },
	})
	if err != nil {
		t.Fatal(err)
	}
	at := attach(r, roster.Registration{Agent: "a", Session: &session{}, Targets: set("t"), HasTargets: true})
	at.Close()
	ask := func() error {
		_, err := r.Scrape(t.Context(), &scrape.Request{Agent: "a", Target: "t"})
		return err
	}
	want := func(when string, err error, reason scrape.Reason, says bool) {
		t.Helper()
		failed, ok := errors.AsType[*scrape.Error](err)
		if !ok || failed.Reason != reason || strings.Contains(failed.Message, "is revoked: it was revoked yesterday") != says {
			t.Errorf("%s: %v, want %s, and that it is revoked: %v", when, err, reason, says)
		}
	}
	want("away", ask(), scrape.AgentOffline, false)
	out["a"] = true
	want("revoked, with its targets", ask(), scrape.AgentOffline, true)
	r.Unlist("a")
	want("revoked", ask(), scrape.TargetUnknown, true)
	_, _, found := r.Find(scrape.Match{Instance: "t:1", Agent: "a"})
	want("revoked, by its host", found, scrape.TargetUnknown, true)
	_, _, found = r.Find(scrape.Match{Instance: "t:1"})
	want("nobody's host", found, scrape.TargetUnknown, false)
	out["a"] = false
	want("allowed", ask(), scrape.TargetUnknown, false)
}

// TestRead: the file says without a relay what a relay with it says.
func TestRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "agents.json")
	if known, err := roster.Read(file); err != nil || len(known) != 0 {
		t.Errorf("Read() of no file = %v, %v", known, err)
	}
	r, _ := open(t, file)
	for _, name := range []string{"b", "a"} {
		attach(r, roster.Registration{Agent: name, Session: &session{}, CertificateSerial: "f", Targets: set("t"), HasTargets: true}).Close()
	}
	run(t, r, func() {})
	known, err := roster.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r.Agents(), known, cmpopts.EquateApproxTime(0), cmpopts.IgnoreFields(roster.Agent{}, "Sessions")); diff != "" {
		t.Errorf("Read() (-registry +file):\n%s", diff)
	}
}

// TestNamesAreBoundToTrustDomains: whoever has a name first keeps it, also over a restart, until it is forgotten.
func TestNamesAreBoundToTrustDomains(t *testing.T) {
	file := filepath.Join(t.TempDir(), "agents.json")
	r, _ := open(t, file)
	other := roster.Registration{Agent: "a", Session: &session{}, TrustDomain: "b.example"}
	refused := func(r *roster.Registry) {
		t.Helper()
		_, err := r.Register(other)
		if taken, ok := errors.AsType[*roster.TakenError](err); !ok || taken.TrustDomain != "a.example" {
			t.Errorf("Register() of another trust domain: %v", err)
		}
		if r.CheckName("a", "b.example") == nil || r.CheckName("a", "a.example") != nil || r.CheckName("b", "b.example") != nil {
			t.Error("CheckName() says otherwise")
		}
	}
	run(t, r, func() {
		first := attach(r, roster.Registration{Agent: "a", Session: &session{}, TrustDomain: "a.example"})
		refused(r)
		if !first.Current() {
			t.Error("the session of the first one has ended")
		}
		first.Close()
		refused(r)
		attach(r, roster.Registration{Agent: "a", Session: &session{}, TrustDomain: "a.example"}).Close()
	})
	again, _ := open(t, file)
	refused(again)
	if err := again.Forget("a"); err != nil {
		t.Fatal(err)
	}
	attach(again, other)
}
