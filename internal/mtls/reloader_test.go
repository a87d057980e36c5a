package mtls_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pushrelay/internal/mtls"
)

func TestReloader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority(t, "our CA")
		first, second := ca.sign(t, agentTemplate("first")), ca.sign(t, agentTemplate("second", validity(-time.Hour, 1000*time.Hour)))
		files := writeFiles(t, first, ca.pem())
		var log bytes.Buffer
		r, err := mtls.NewReloader(mtls.Config{Role: mtls.Agent, Files: files, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		if s := r.Status(); s.Reloads != 0 || s.Failures != 0 || s.Err != nil {
			t.Errorf("Status() at the start = %+v, want nothing to tell", s)
		}

		// A pair that is copied file by file: half of it is there for a while.
		replaceFile(t, files.CertFile, second.cert)
		if got := agentName(t, r); got != "first" {
			t.Errorf("within the interval: agent %q, want first", got)
		}
		time.Sleep(time.Second)
		if got := agentName(t, r); got != "first" {
			t.Errorf("with half a pair: agent %q, want first", got)
		}
		if s := r.Status(); s.Failures != 1 || s.Err == nil || !strings.Contains(s.Err.Error(), "do not belong together") {
			t.Errorf("Status() with half a pair = %+v, want one failure with its reason", s)
		}
		time.Sleep(time.Minute)
		r.Material()
		if s := r.Status(); s.Failures != 1 {
			t.Errorf("Failures = %d, want one per change", s.Failures)
		}
		if n := strings.Count(log.String(), "level=WARN"); n != 1 {
			t.Errorf("%d warnings, want one per change:\n%s", n, &log)
		}

		replaceFile(t, files.KeyFile, second.key)
		time.Sleep(time.Second)
		if got := agentName(t, r); got != "second" {
			t.Errorf("with the new pair: agent %q, want second", got)
		}
		s := r.Status()
		if s.Reloads != 1 || s.Failures != 1 || s.Err != nil || !s.NotAfter.Equal(r.NotAfter()) || !s.NotAfter.Equal(r.Material().NotAfter()) {
			t.Errorf("Status() with the new pair = %+v, want one reload and its NotAfter", s)
		}
		time.Sleep(time.Minute)
		if s := r.Status(); s.Reloads != 1 {
			t.Errorf("Reloads = %d without a change, want 1", s.Reloads)
		}

		if err := os.Remove(files.CAFile); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if s := r.Status(); !errors.Is(s.Err, os.ErrNotExist) || agentName(t, r) != "second" {
			t.Errorf("Status() with a missing file = %+v, want its error and the material kept", s)
		}
	})
}

// An end starts with a certificate that is not valid yet: its clock may not be set. Nothing has to change on disk for it
// to become good.
func TestReloaderStartsOutsideTheValidity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority(t, "our CA")
		relay := newReloader(t, mtls.Relay, writeFiles(t, ca.sign(t, relayTemplate()), ca.pem()))
		files := writeFiles(t, ca.sign(t, agentTemplate("a", validity(time.Hour, 2*time.Hour))), ca.pem())
		agent := newReloader(t, mtls.Agent, files)

		refusedByItself := func(when string) {
			t.Helper()
			out := handshake(mtls.RelayTLSConfig(relay, nil), mtls.AgentTLSConfig(agent, "relay.test"))
			if _, ok := errors.AsType[*mtls.ValidityError](out.agentErr); !ok {
				t.Errorf("%s: agent %v, want a *ValidityError", when, out.agentErr)
			}
			if _, ok := errors.AsType[*mtls.ValidityError](agent.Status().Err); !ok {
				t.Errorf("%s: Status().Err = %v, want a *ValidityError", when, agent.Status().Err)
			}
		}
		refusedByItself("too early")
		time.Sleep(90 * time.Minute)
		out := handshake(mtls.RelayTLSConfig(relay, nil), mtls.AgentTLSConfig(agent, "relay.test"))
		if out.relayErr != nil || out.agentErr != nil || agent.Status().Err != nil {
			t.Errorf("in time: relay %v, agent %v, status %v, want none", out.relayErr, out.agentErr, agent.Status().Err)
		}
		time.Sleep(time.Hour)
		refusedByItself("too late")
	})
}

// A new certificate that becomes valid later is taken over then, though its file has not changed since.
func TestReloaderTakesOverWhatBecomesValid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority(t, "our CA")
		files := writeFiles(t, ca.sign(t, agentTemplate("now")), ca.pem())
		r := newReloader(t, mtls.Agent, files)
		later := ca.sign(t, agentTemplate("later", validity(time.Hour, 2*time.Hour)))
		replaceFile(t, files.CertFile, later.cert)
		replaceFile(t, files.KeyFile, later.key)
		time.Sleep(time.Minute)
		if got := agentName(t, r); got != "now" {
			t.Errorf("before its time: agent %q, want now", got)
		}
		time.Sleep(time.Hour)
		if got := agentName(t, r); got != "later" {
			t.Errorf("in its time: agent %q, want later", got)
		}
	})
}

// Both configurations live on while the files change: the CA is replaced by way of a file with both.
func TestHandshakeFollowsTheFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before, after := newAuthority(t, "old CA"), newAuthority(t, "new CA")
		relayFiles := writeFiles(t, before.sign(t, relayTemplate()), before.pem())
		agentFiles := writeFiles(t, before.sign(t, agentTemplate("a")), before.pem())
		relay := mtls.RelayTLSConfig(newReloader(t, mtls.Relay, relayFiles), nil)
		agent := mtls.AgentTLSConfig(newReloader(t, mtls.Agent, agentFiles), "relay.test")
		both := slices.Concat(before.pem(), after.pem())
		newRelay, newAgent := after.sign(t, relayTemplate()), after.sign(t, agentTemplate("a"))

		steps := []struct {
			name string
			do   func()
			fail bool
		}{
			{name: "at the start", do: func() {}},
			{name: "both CAs at both ends", do: func() {
				replaceFile(t, relayFiles.CAFile, both)
				replaceFile(t, agentFiles.CAFile, both)
			}},
			{name: "new relay certificate", do: func() {
				replaceFile(t, relayFiles.CertFile, newRelay.cert)
				replaceFile(t, relayFiles.KeyFile, newRelay.key)
			}},
			{name: "old CA gone at the relay, agent has its old certificate", fail: true, do: func() {
				replaceFile(t, relayFiles.CAFile, after.pem())
			}},
			{name: "new agent certificate", do: func() {
				replaceFile(t, agentFiles.CertFile, newAgent.cert)
				replaceFile(t, agentFiles.KeyFile, newAgent.key)
			}},
		}
		for _, step := range steps {
			step.do()
			time.Sleep(time.Second)
			out := handshake(relay, agent)
			if failed := out.relayErr != nil || out.agentErr != nil; failed != step.fail {
				t.Errorf("%s: relay %v, agent %v, want failure: %v", step.name, out.relayErr, out.agentErr, step.fail)
			}
		}
	})
}

// A resumed session shows no certificate: what is in the ticket is held against the CA, the clock and the trust domain of
// now.
func TestResumptionIsVerifiedAgain(t *testing.T) {
	var revoked atomic.Bool
	refuses := func(mtls.PeerID, [][]*x509.Certificate) (string, bool) { return "it was thrown out", revoked.Load() }
	tests := []struct {
		name    string
		between func(t *testing.T, relayFiles mtls.Files, ca *authority)
		want    string // in the relay's error; empty: resumes
	}{
		{name: "nothing changed", between: func(*testing.T, mtls.Files, *authority) {}},
		{name: "certificate expired", want: "outside its validity", between: func(*testing.T, mtls.Files, *authority) {
			time.Sleep(3 * time.Hour)
		}},
		{name: "CA no longer trusted", want: "not by this relay's CA", between: func(t *testing.T, files mtls.Files, _ *authority) {
			other := newAuthority(t, "other CA")
			p := other.sign(t, relayTemplate())
			replaceFile(t, files.CertFile, p.cert)
			replaceFile(t, files.KeyFile, p.key)
			replaceFile(t, files.CAFile, other.pem())
		}},
		{name: "revoked meanwhile", want: `refusing agent "a": it was thrown out`, between: func(*testing.T, mtls.Files, *authority) { revoked.Store(true) }},
		{name: "relay of another trust domain", want: `this relay is of "elsewhere"`, between: func(t *testing.T, files mtls.Files, ca *authority) {
			p := ca.sign(t, relayTemplate(uris("spiffe://elsewhere/relay")))
			replaceFile(t, files.CertFile, p.cert)
			replaceFile(t, files.KeyFile, p.key)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				revoked.Store(false)
				ca := newAuthority(t, "our CA")
				files := writeFiles(t, ca.sign(t, relayTemplate()), ca.pem())
				relay := mtls.RelayTLSConfig(newReloader(t, mtls.Relay, files), refuses)
				agent := bareAgent(t, new(ca.sign(t, agentTemplate("a", validity(-time.Hour, 2*time.Hour)))))
				agent.ClientSessionCache = tls.NewLRUClientSessionCache(1)

				if out := handshake(relay, agent); out.relayErr != nil || out.agentErr != nil || out.relayState.DidResume {
					t.Fatalf("first handshake: relay %v, agent %v, resumed %v", out.relayErr, out.agentErr, out.relayState.DidResume)
				}
				tt.between(t, files, ca)
				time.Sleep(time.Second)
				out := handshake(relay, agent)
				if tt.want == "" {
					if out.relayErr != nil || !out.relayState.DidResume {
						t.Fatalf("second handshake: relay %v, resumed %v, want it resumed", out.relayErr, out.relayState.DidResume)
					}
					if id, err := mtls.PeerIDFromState(out.relayState); err != nil || id.Agent != "a" {
						t.Errorf("PeerIDFromState() = %v, %v, want agent a", id, err)
					}
					return
				}
				err := mtls.ExplainHandshake(mtls.Relay, out.relayErr)
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("second handshake: relay %v, want an error with %q", err, tt.want)
				}
			})
		})
	}
}

// Our agents do not resume: after a renewal the relay must see the new certificate.
func TestAgentDoesNotResume(t *testing.T) {
	ca := newAuthority(t, "our CA")
	relay := mtls.RelayTLSConfig(newReloader(t, mtls.Relay, writeFiles(t, ca.sign(t, relayTemplate()), ca.pem())), nil)
	agent := mtls.AgentTLSConfig(newReloader(t, mtls.Agent, writeFiles(t, ca.sign(t, agentTemplate("a")), ca.pem())), "relay.test")
	for range 2 {
		if out := handshake(relay, agent); out.relayErr != nil || out.relayState.DidResume {
			t.Fatalf("handshake: relay %v, resumed %v, want a full one", out.relayErr, out.relayState.DidResume)
		}
	}
}

func TestReloaderConcurrently(t *testing.T) {
	ca := newAuthority(t, "our CA")
	files := writeFiles(t, ca.sign(t, agentTemplate("a")), ca.pem())
	r, err := mtls.NewReloader(mtls.Config{Role: mtls.Agent, Files: files, CheckInterval: 1})
	if err != nil {
		t.Fatal(err)
	}
	relay := mtls.RelayTLSConfig(newReloader(t, mtls.Relay, writeFiles(t, ca.sign(t, relayTemplate()), ca.pem())), nil)
	agent := mtls.AgentTLSConfig(r, "relay.test")

	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				if out := handshake(relay, agent); out.relayErr != nil || out.agentErr != nil {
					t.Errorf("handshake: relay %v, agent %v, want none", out.relayErr, out.agentErr)
				}
				r.Status()
			}
		})
	}
	for range 20 {
		p := ca.sign(t, agentTemplate("a"))
		replaceFile(t, files.CertFile, p.cert)
		replaceFile(t, files.KeyFile, p.key)
	}
	wg.Wait()
	if s := r.Status(); s.Reloads == 0 || s.Err != nil {
		t.Errorf("Status() = %+v, want reloads and no error at the end", s)
	}
}

func TestNewReloaderFailsOnBadFiles(t *testing.T) {
	ca, other := newAuthority(t, "our CA"), newAuthority(t, "other CA")
	for name, files := range map[string]mtls.Files{
		"missing":  {CertFile: "missing", KeyFile: "missing", CAFile: "missing"},
		"other CA": writeFiles(t, ca.sign(t, relayTemplate()), other.pem()),
	} {
		if _, err := mtls.NewReloader(mtls.Config{Role: mtls.Relay, Files: files}); err == nil {
			t.Errorf("%s: NewReloader() succeeded, want an error", name)
		}
	}
}

func agentName(tb testing.TB, r *mtls.Reloader) string {
	tb.Helper()
	id, err := mtls.PeerIDFromCertificate(r.Material().Leaf())
	if err != nil {
		tb.Fatal(err)
	}
	return id.Agent
}

func BenchmarkHandshake(b *testing.B) {
	ca := newAuthority(b, "our CA")
	relay := mtls.RelayTLSConfig(newReloader(b, mtls.Relay, writeFiles(b, ca.sign(b, relayTemplate()), ca.pem())), nil)
	agent := mtls.AgentTLSConfig(newReloader(b, mtls.Agent, writeFiles(b, ca.sign(b, agentTemplate("a")), ca.pem())), "relay.test")
	b.ReportAllocs()
	for b.Loop() {
		if out := handshake(relay, agent); out.relayErr != nil {
			b.Fatal(out.relayErr)
		}
	}
}

// TestRenewalIsTold: what is to be done about a certificate that has ended says who loads it, and whoever has written the files need not wait to have them used.
func TestRenewalIsTold(t *testing.T) {
	ca := newAuthority(t, "CA")
	files := writeFiles(t, ca.sign(t, agentTemplate("a", validity(-2*time.Hour, -time.Hour))), ca.pem())
	r, err := mtls.NewReloader(mtls.Config{Role: mtls.Agent, Files: files, Renewal: "wait, it comes by itself", CheckInterval: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	err = r.Material().CheckValidity(time.Now())
	if err == nil || !strings.Contains(err.Error(), "wait, it comes by itself") || strings.Contains(err.Error(), "relay-server") {
		t.Errorf("CheckValidity() = %v", err)
	}
	next := writeFiles(t, ca.sign(t, agentTemplate("a")), ca.pem())
	if err := errors.Join(os.Rename(next.KeyFile, files.KeyFile), os.Rename(next.CertFile, files.CertFile)); err != nil {
		t.Fatal(err)
	}
	if r.Material().CheckValidity(time.Now()) == nil {
		t.Error("Material() looks sooner than it shall")
	}
	if err := r.Look().CheckValidity(time.Now()); err != nil {
		t.Errorf("after Look(): %v", err)
	}
}
