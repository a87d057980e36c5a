package enrolserver_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/enrol"
	"pushrelay/internal/enrol/enrolserver"
	"pushrelay/internal/ledger"
	"pushrelay/internal/mtls"
)

// told returns the lines of the log about refusals since it was asked last, without their times.
func (r *relay) told() (lines []string) {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	for line := range strings.Lines(r.log.text.String()) {
		if _, refused, ok := strings.Cut(line, `msg="certificate refused" audit=refused `); ok {
			lines = append(lines, strings.TrimSpace(refused))
		}
	}
	r.log.text.Reset()
	return lines
}

// TestRefusalsAreTold: each with why, by which token or certificate, and who asked. What the holder of a token is not told is in the log.
func TestRefusalsAreTold(t *testing.T) {
	const from = "addr=192.0.2.1:4711 "
	for name, tt := range map[string]struct {
		ask    func(r *relay) (shown string, err error) // what it was asked with: the id of a token, or a serial number
		want   string                                   // in which X stands for that
		reason enrol.Reason
	}{
		"unknown": {func(r *relay) (string, error) {
			token := enrol.NewToken([]string{"relay:9443"}, r.pin)
			_, err := r.enroll(newAgent(t), token, "site-a")
			return token.ID.String(), err
		}, `reason=token token=X agent=site-a detail="it is unknown to this relay, or ended or void" not_logged=0`, enrol.ReasonToken},
		"wrong secret": {func(r *relay) (string, error) {
			token := r.token(ledger.Token{Name: "site-a"})
			token.Secret[0] ^= 1
			_, err := r.enroll(newAgent(t), token, "")
			return token.ID.String(), err
		}, `reason=token token=X detail="its secret is wrong" not_logged=0`, enrol.ReasonToken},
		"used": {func(r *relay) (string, error) {
			token := r.token(ledger.Token{Name: "site-a"})
			r.mustEnroll(newAgent(t), token, "")
			_, err := r.enroll(newAgent(t), token, "")
			return token.ID.String(), err
		}, `reason=token token=X agent=site-a detail="it has let in as many keys as it has uses" not_logged=0`, enrol.ReasonToken},
		"name": {func(r *relay) (string, error) {
			token := r.token(ledger.Token{Name: "site-a"})
			_, err := r.enroll(newAgent(t), token, "site-b")
			return token.ID.String(), err
		}, `reason=name token=X agent=site-b detail="the token is for site-a, and not for site-b" not_logged=0`, enrol.ReasonName},
		"what is no name": {func(r *relay) (string, error) {
			token := r.token(ledger.Token{Name: "site-", Prefix: true})
			_, err := r.enroll(newAgent(t), token, "no\nname")
			return token.ID.String(), err
		}, "", enrol.ReasonName},
		"of another trust domain": {func(r *relay) (string, error) {
			token := r.token(ledger.Token{Name: "site-", Prefix: true})
			_, err := r.joining("192.0.2.1", token, "site-foreign").Attempt(r.t.Context())
			return token.ID.String(), err
		}, `reason=name token=X agent=site-foreign detail="site-foreign is not of pushrelay" not_logged=0`, enrol.ReasonName},
		"revoked": {func(r *relay) (string, error) {
			a := newAgent(t)
			cert := r.mustEnroll(a, r.token(ledger.Token{Name: "site-a"}), "")
			if _, err := r.ledger.Revoke(ledger.Revocation{Agent: "site-a", At: time.Now()}); err != nil {
				r.t.Fatal(err)
			}
			_, err := r.renewLate(a.with(cert), newAgent(t))
			return mtls.Serial(cert), err
		}, `reason=revoked agent=site-a serial=X detail="site-a is revoked: it was revoked at 2000-01-01T00:00:00Z" not_logged=0`, enrol.ReasonRevoked},
		"over a session": {func(r *relay) (string, error) {
			a := newAgent(t)
			cert := r.mustEnroll(a, r.token(ledger.Token{Name: "site-a"}), "")
			_, err := r.server.Renew(cert, []byte("none"), "192.0.2.1:4711")
			return mtls.Serial(cert), err
		}, "", enrol.ReasonRequest},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRelay(t)
				shown, err := tt.ask(r)
				if err == nil {
					t.Fatal("it is not refused")
				}
				if diff := cmp.Diff(map[string]float64{string(tt.reason): 1}, r.refusals()); diff != "" {
					t.Errorf("counted (-want +got):\n%s", diff)
				}
				told := r.told()
				if tt.want != "" && !slices.Equal(told, []string{from + strings.Replace(tt.want, "X", shown, 1)}) || len(told) != 1 || !strings.Contains(told[0], "="+shown+" ") {
					t.Errorf("the log says\n%q, want\n%q", told, from+tt.want)
				}
			})
		})
	}
}

// TestRefusalsHideNobody: who is refused all the time has a line a minute, and so has each token that is known; strangers who are many do not hide others.
func TestRefusalsHideNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(t, func(c *enrolserver.Config) { c.CheckName = func(string, string) error { return nil } })
		stranger := func(from string) {
			token := enrol.NewToken([]string{"relay:9443"}, r.pin)
			_, err := r.client(from, nil).Enroll(t.Context(), newAgent(t).ask(token, ""))
			wantRefusal(t, err, enrol.ReasonToken, "")
		}
		for range 90 {
			stranger("192.0.2.1")
		}
		if told := r.told(); len(told) != 1 {
			t.Errorf("%d lines of 90 refusals of one address within 9 s", len(told))
		}
		for i := range 40 {
			stranger(fmt.Sprint("198.51.100.", i))
		}
		if told := r.told(); len(told) > 20 {
			t.Errorf("%d lines of 40 refusals of as many addresses within 4 s", len(told))
		}
		token := r.token(ledger.Token{Name: "site-a"})
		for range 2 {
			wrong := token
			wrong.Secret[0] ^= 1
			if _, err := r.enroll(newAgent(t), wrong, ""); err == nil {
				t.Fatal("a token with another secret lets somebody in")
			}
		}
		if told := r.told(); len(told) != 1 || !strings.Contains(told[0], "token="+token.ID.String()) {
			t.Errorf("of a token that is known: %q", told)
		}
		time.Sleep(time.Minute)
		stranger("192.0.2.1")
		if told := r.told(); len(told) != 1 || !strings.Contains(told[0], "not_logged=89") {
			t.Errorf("a minute later: %q", told)
		}
	})
}
