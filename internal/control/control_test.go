package control_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/promslog"

	"pushrelay/internal/authority"
	"pushrelay/internal/control"
	"pushrelay/internal/ledger"
	"pushrelay/internal/relayapi"
	"pushrelay/internal/roster"
)

// registry is a control.Registry that notes in which order it is asked.
type registry struct{ asked []string }

func (r *registry) Agents() []roster.Agent {
	return []roster.Agent{{Name: "site-a", Connected: true, Targets: make([]roster.Target, 2), LastSeen: time.Unix(1, 0)}, {Name: "site-b"}}
}

func (r *registry) Known(name string) bool {
	return slices.ContainsFunc(r.Agents(), func(a roster.Agent) bool { return a.Name == name })
}

func (r *registry) CheckName(name, trustDomain string) error {
	if name == "site-b" {
		return &roster.TakenError{Name: name, TrustDomain: "not " + trustDomain}
	}
	return nil
}

func (r *registry) Forget(name string) error {
	if name == "site-a" {
		return fmt.Errorf("forgetting: %w", roster.ErrConnected)
	}
	return nil
}

func (r *registry) EndRevoked() int {
	r.asked = append(r.asked, "end")
	return 1
}

func (r *registry) Unlist(string) int {
	r.asked = append(r.asked, "unlist")
	return 2
}

// Account is that of a control.Accounts.
func (r *registry) Account(string) (groups, series int) {
	r.asked = append(r.asked, "account")
	return 3, 4
}

type fixture struct {
	dir      string
	registry *registry
	ledger   *ledger.Ledger
	reg      *prometheus.Registry
	own      *authority.Authority
	cfg      control.Config
	handler  http.Handler
}

func newFixture(t *testing.T, deleted error) *fixture {
	t.Helper()
	dir := t.TempDir()
	l, err := ledger.Open(ledger.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	own, err := authority.Create(filepath.Join(dir, "authority"), authority.Config{})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{dir: dir, registry: &registry{}, ledger: l, reg: prometheus.NewRegistry(), own: own}
	f.cfg = control.Config{
		Ledger: l, Registry: f.registry, Accounts: f.registry, CheckIssued: own.CheckIssued, LongestLife: authority.LongestLife,
		CAPEM: func() []byte { return []byte("the authorities") },
		DeleteGroups: func(context.Context, string) (relayapi.Deletion, error) {
			return relayapi.Deletion{Deleted: 1}, deleted
		},
		Place: place, Logger: promslog.NewNopLogger(), Registerer: f.reg,
	}
	f.handler = control.New(f.cfg).Handler()
	return f
}

func (f *fixture) ask(t *testing.T, method, path, body string) (status int, answer string) {
	t.Helper()
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body)))
	return w.Code, w.Body.String()
}

func certificate(t *testing.T, a *authority.Authority, agent string) string {
	t.Helper()
	issued, err := a.IssueAgent(agent)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"certificate":%q}`, issued.CertPEM)
}

func TestRoutes(t *testing.T) {
	f := newFixture(t, nil)
	foreign, err := authority.Create(filepath.Join(t.TempDir(), "foreign"), authority.Config{})
	if err != nil {
		t.Fatal(err)
	}
	noted := certificate(t, f.own, "site-c")
	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		want                     string
	}{
		{"list", "GET", "/agents", "", 200, `"agent":"site-a","state":"connected"`},
		{"show", "GET", "/agents/site-b", "", 200, `"state":"away"`},
		{"show nobody", "GET", "/agents/site-z", "", 404, "agent is not known"},
		{"note", "POST", "/certificates", noted, 200, `"data":{"ca":"the authorities"}`},
		{"note again", "POST", "/certificates", noted, 409, "has this certificate already"},
		{"note of another authority", "POST", "/certificates", certificate(t, foreign, "site-c"), 400, "issued by another CA"},
		{"note for another's name", "POST", "/certificates", certificate(t, f.own, "site-b"), 409, `the name site-b is that of an agent of trust domain \"not pushrelay\"`},
		{"note nothing", "POST", "/certificates", "", 400, "no certificate in it"},
		{"one that never came", "GET", "/agents/site-c", "", 200, `"state":"unseen"`},
		{"a mistyped option", "POST", "/agents/site-a/revoke", `{"delete_group":true}`, 400, "unknown field"},
		{"a body that is too large", "POST", "/agents/site-a/revoke", strings.Repeat(" ", 70<<10), 400, "too large"},
		{"no name", "POST", "/agents/Site_A/revoke", "", 400, "agent name"},
		{"revoke", "POST", "/agents/site-a/revoke", "", 200, `"known":true,"sessions_ended":1,"targets_removed":2,"groups":3`},
		{"note for one that is revoked", "POST", "/certificates", certificate(t, f.own, "site-a"), 409, "relay-server agents token site-a lets it in with a new key; relay-server agents allow site-a lets in every certificate"},
		{"allow", "POST", "/agents/site-a/allow", "", 200, `"lifted":[{"at":`},
		{"allow again", "POST", "/agents/site-a/allow", "", 409, "is not revoked"},
		{"forget", "DELETE", "/agents/site-b", "", 200, `"status":"success"`},
		{"forget one that is connected", "DELETE", "/agents/site-a", "", 409, "agent is connected"},
		{"another method", "PUT", "/agents/site-a", "", 405, ""},
	} {
		if status, answer := f.ask(t, tt.method, tt.path, tt.body); status != tt.status || !strings.Contains(answer, tt.want) {
			t.Errorf("%s: %d %s, want %d and %q", tt.name, status, answer, tt.status, tt.want)
		}
	}
	if got := testutil.ToFloat64(collectorOf(t, f.reg)); got != 1 {
		t.Errorf("%v certificates are counted, want 1", got)
	}
}

// collectorOf returns the metric of certificates that were issued by command.
func collectorOf(t *testing.T, reg *prometheus.Registry) prometheus.Collector {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "x"})
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == "relay_certificates_issued_total" && m.GetLabel()[0].GetValue() == string(ledger.ByCommand) {
				counter.Add(m.GetCounter().GetValue())
			}
		}
	}
	return counter
}

// TestOrderOfARevocation: it is in the ledger before sessions end, and the store is asked after that, so that nothing is applied once it returns.
func TestOrderOfARevocation(t *testing.T) {
	f := newFixture(t, errors.New("disk full"))
	status, answer := f.ask(t, "POST", "/agents/site-a/revoke", `{"delete_groups":true}`)
	if want := []string{"end", "account", "unlist", "account"}; status != http.StatusServiceUnavailable || fmt.Sprint(f.registry.asked) != fmt.Sprint(want) {
		t.Errorf("asked %q, want %q; %d %s", f.registry.asked, want, status, answer)
	}
	if !strings.Contains(answer, `"groups_deleted":1`) || !strings.Contains(answer, "site-a is revoked, and not all of its groups are deleted: disk full") {
		t.Errorf("the answer is %s", answer)
	}
	if _, refused := f.ledger.Refuses("site-a", "1"); !refused {
		t.Error("it is not revoked")
	}
}

// TestEnforce: what another relay has revoked has its sessions ended here, and its targets removed.
func TestEnforce(t *testing.T) {
	f := newFixture(t, nil)
	if _, err := f.ledger.Revoke(ledger.Revocation{Agent: "site-a", At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	f.cfg.Registerer = prometheus.NewRegistry()
	control.New(f.cfg).Enforce()
	if want := "[end unlist]"; fmt.Sprint(f.registry.asked) != want {
		t.Errorf("asked %q, want %s", f.registry.asked, want)
	}
}

// TestUnwritten: what could not be written did not come to pass, and that is the first thing that is said.
func TestUnwritten(t *testing.T) {
	f := newFixture(t, nil)
	_, answer := f.ask(t, "POST", "/tokens", `{"name":"site-","prefix":true,"uses":5,"ttl_seconds":3600}`)
	id := made(t, answer).ID
	if status, answer := f.ask(t, "POST", "/agents/site-b/revoke", ""); status != http.StatusOK {
		t.Fatal(status, answer)
	}
	asked := len(f.registry.asked)
	if err := errors.Join(f.ledger.Close(), os.RemoveAll(f.dir)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, method, path, body, want string }{
		{"revoke", "POST", "/agents/site-a/revoke", "", "site-a is NOT revoked: writing the ledger: "},
		{"revoke one certificate", "POST", "/agents/site-a/revoke", `{"serial":"AB:CD"}`, "certificate abcd of site-a is NOT revoked: writing the ledger: "},
		{"allow", "POST", "/agents/site-b/allow", "", "site-b is revoked as before: writing the ledger: "},
		{"make a token", "POST", "/tokens", `{"name":"site-a","uses":1,"ttl_seconds":3600}`, "no token was made: writing the ledger: "},
		{"void a token", "DELETE", "/tokens/" + id, "", "token " + id + " is NOT void: writing the ledger: "},
	} {
		status, answer := f.ask(t, tt.method, tt.path, tt.body)
		if status != http.StatusServiceUnavailable || !strings.Contains(answer, `"error":"`+tt.want) || !strings.Contains(answer, "free space or mend the disk, and do the same again") {
			t.Errorf("%s: %d %s, want %q", tt.name, status, answer, tt.want)
		}
	}
	if len(f.registry.asked) > asked {
		t.Errorf("sessions or targets were ended: %q", f.registry.asked[asked:])
	}
	if _, refused := f.ledger.Refuses("site-a", "1"); refused {
		t.Error("site-a is refused")
	}
}
