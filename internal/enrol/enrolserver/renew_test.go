package enrolserver_test

import (
	"crypto/x509"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"pushrelay/internal/enrol"
	"pushrelay/internal/enrol/enrolserver"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/ledger"
	"pushrelay/internal/mtls"
)

// TestRenewLate: the certificate that was shown is as good as it was, until its grace is over.
func TestRenewLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(t)
		a, b := newAgent(t), newAgent(t)
		first := r.mustEnroll(a, r.token(ledger.Token{Name: "site-a"}), "")
		time.Sleep(lifetime + grace - time.Hour)
		second, err := r.renewLate(a.with(first), b)
		if err != nil {
			t.Fatal(err)
		}
		wantAgent(t, second, "site-a", b.key)
		if known, _ := r.ledger.Agent("site-a"); len(known.Certificates) != 2 || known.Certificates[1].Parent != mtls.Serial(first) || known.Certificates[1].By != ledger.ByRenewal {
			t.Errorf("the ledger has %+v", known.Certificates)
		}
		_, err = r.renewLate(b.with(second), b)
		wantRefusal(t, err, enrol.ReasonRequest, "want a new one")
		time.Sleep(2 * time.Hour)
		_, err = r.renewLate(a.with(first), newAgent(t))
		wantRefusal(t, err, enrol.ReasonCertificate, "too long ago")

		_, err = r.client("192.0.2.1", nil).RenewLate(t.Context(), &relayv1.RenewLateRequest{CertificateRequest: a.request()})
		wantRefusal(t, err, enrol.ReasonCertificate, "no certificate was shown")
		if _, err := r.renewLate(a.with(second), newAgent(t)); status.Code(err) != codes.Unavailable || strings.Contains(err.Error(), "revoked") {
			t.Errorf("whoever has not the key: %v", err) // the handshake fails
		}

		if _, err := r.ledger.Revoke(ledger.Revocation{Agent: "site-a", At: time.Now()}); err != nil {
			t.Fatal(err)
		}
		_, err = r.renewLate(b.with(second), newAgent(t))
		wantRefusal(t, err, enrol.ReasonRevoked, "site-a is revoked")
	})
}

// TestWhetherRevoked: whoever has the key of a certificate is told whether it is revoked, and nothing is issued for it. Who is revoked hears nothing else.
func TestWhetherRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(t)
		a := newAgent(t)
		cert := r.mustEnroll(a, r.token(ledger.Token{Name: "site-a"}), "")
		unnoted, err := r.authority.SignAgent("site-a", a.key.Public(), lifetime)
		if err != nil {
			t.Fatal(err)
		}
		ask := func(cert *x509.Certificate) error {
			out, err := r.client("192.0.2.1", a.with(cert)).RenewLate(t.Context(), &relayv1.RenewLateRequest{})
			if out.GetIssued() != nil {
				t.Error("a certificate was issued")
			}
			return err
		}
		if err := ask(cert); err != nil || len(r.refusals()) > 0 {
			t.Errorf("one that is not revoked: %v, %v", err, r.refusals())
		}
		wantRefusal(t, ask(unnoted), enrol.ReasonCertificate, "ledger of this relay does not have")
		if _, err := r.ledger.Revoke(ledger.Revocation{Agent: "site-a", At: time.Now()}); err != nil {
			t.Fatal(err)
		}
		wantRefusal(t, ask(cert), enrol.ReasonRevoked, "site-a is revoked: it was revoked at 2000-01-01T00:00:00Z")
		wantRefusal(t, ask(unnoted), enrol.ReasonRevoked, "site-a is revoked: it was revoked at 2000-01-01T00:00:00Z")
		time.Sleep(lifetime + grace + day)
		wantRefusal(t, ask(cert), enrol.ReasonRevoked, "site-a is revoked")
		if known, _ := r.ledger.Agent("site-a"); len(known.Certificates) != 1 {
			t.Errorf("the ledger has %d certificates", len(known.Certificates))
		}
	})
}

// TestRenewLateOfStrangers: what another authority issued, what is not in the ledger, and what is no agent's is not renewed.
func TestRenewLateOfStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, other := newRelay(t), newRelay(t)
		a := newAgent(t)
		foreign := other.mustEnroll(a, other.token(ledger.Token{Name: "site-a"}), "")
		_, err := r.renewLate(a.with(foreign), newAgent(t))
		wantRefusal(t, err, enrol.ReasonCertificate, "none that this relay issued")

		unnoted, err := r.authority.SignAgent("site-a", a.key.Public(), lifetime)
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.renewLate(a.with(unnoted), newAgent(t))
		wantRefusal(t, err, enrol.ReasonCertificate, "ledger of this relay does not have")
		if _, err := r.server.Renew(unnoted, newAgent(t).request(), "192.0.2.1:1"); err != nil {
			t.Errorf("a session renews what an earlier release issued: %v", err)
		}
		if _, err := r.server.Renew(foreign, newAgent(t).request(), "192.0.2.1:1"); err == nil {
			t.Error("a session renews what another authority issued")
		}
	})
}

// TestRenewalsAreBounded: an agent that renews all the time has a few certificates a day.
func TestRenewalsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(t)
		cert := r.mustEnroll(newAgent(t), r.token(ledger.Token{Name: "site-a"}), "")
		request := newAgent(t).request()
		for range 24 * 12 {
			if _, err := r.server.Renew(cert, request, "192.0.2.1:1"); err != nil {
				wantRefusal(t, err, enrol.ReasonLater, "asks very often")
			}
			time.Sleep(5 * time.Minute)
		}
		if renewed := len(r.issued) - 1; renewed < 60 || renewed > 16+48 {
			t.Errorf("%d renewals in a day", renewed)
		}
	})
}

// TestRenewalsThatCannotBeKept: an agent that can keep no certificate asks for one again and again, and is never put off, whatever the lives of certificates.
// It waits as renewal.Keeper does, each time as short as that may be.
func TestRenewalsThatCannotBeKept(t *testing.T) {
	for _, life := range []time.Duration{time.Minute, time.Hour, 10 * time.Hour, day, 30 * day, 366 * day} {
		t.Run(life.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRelay(t, func(c *enrolserver.Config) { c.Lifetime = life })
				cert := r.mustEnroll(newAgent(t), r.token(ledger.Token{Name: "site-a"}), "")
				request := newAgent(t).request()
				limit := max(time.Minute, min(time.Hour, life/20))
				for failures := range 50 {
					if _, err := r.server.Renew(cert, request, "192.0.2.1:1"); err != nil {
						t.Fatalf("after %d failures: %v", failures, err)
					}
					time.Sleep(min(limit, time.Minute<<min(failures, 10)) / 2)
				}
			})
		})
	}
}
