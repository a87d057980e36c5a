package enrolserver_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/status"

	"pushrelay/internal/enrol"
	"pushrelay/internal/enrol/enrolclient"
	"pushrelay/internal/enrol/enrolserver"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/ledger"
	"pushrelay/internal/mtls"
)

// TestEnroll: a token lets in whom it is for, as often as it says, and the same key again.
func TestEnroll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(t)
		token := r.token(ledger.Token{Name: "site-a"})
		a := newAgent(t)
		cert := r.mustEnroll(a, token, "")
		wantAgent(t, cert, "site-a", a.key)
		if left := time.Until(cert.NotAfter); left != lifetime {
			t.Errorf("it has %v to go", left)
		}
		if got, want := enrol.RenewFrom(cert.NotBefore, cert.NotAfter), time.Now().Add(lifetime/2); got.Sub(want).Abs() > time.Second {
			t.Errorf("it is to be renewed from %v on, want %v", got, want)
		}
		again := r.mustEnroll(a, token, "site-a") // the answer was lost
		if !bytes.Equal(again.RawTBSCertificate, cert.RawTBSCertificate) {
			t.Error("the same key gets another certificate")
		}
		_, err := r.enroll(newAgent(t), token, "")
		wantRefusal(t, err, enrol.ReasonToken, "unknown to this relay, or used, ended or void")

		known, _ := r.ledger.Agent("site-a")
		if len(known.Certificates) != 1 || known.Certificates[0].By != ledger.ByToken || known.Certificates[0].Token != token.ID.String() || known.Certificates[0].Address != "192.0.2.1:4711" {
			t.Errorf("the ledger has %+v", known.Certificates)
		}
		if len(r.issued) != 1 {
			t.Errorf("%d certificates were told of", len(r.issued))
		}
		if log := r.log.String(); strings.Contains(log, fmt.Sprintf("%x", token.Secret[:])) || !strings.Contains(log, "audit=refused") {
			t.Errorf("the log says %s", log)
		}
	})
}

// TestOneKey: whoever shows a token and one key all the time has one certificate, one record and a few lines of the log for it; the next one when
// half of its life is over, and none under another name.
func TestOneKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(t)
		token := r.token(ledger.Token{Name: "site-a", End: time.Now().Add(366 * day)})
		a := newAgent(t)
		first := r.mustEnroll(a, token, "")
		size := r.size()
		for range 100 {
			if again := r.mustEnroll(a, token, "site-a"); !bytes.Equal(again.RawTBSCertificate, first.RawTBSCertificate) {
				t.Fatal("the same key gets another certificate")
			}
			time.Sleep(10 * time.Millisecond)
		}
		if grown, lines := r.size()-size, strings.Count(r.log.String(), "audit=issued_again"); grown != 0 || len(r.issued) != 1 || lines != 20 {
			t.Errorf("the ledger has grown by %d bytes, %d certificates were issued, and %d lines logged", grown, len(r.issued), lines)
		}
		time.Sleep(lifetime/2 + time.Minute)
		second := r.mustEnroll(a, token, "")
		if left := time.Until(second.NotAfter); left != lifetime || !bytes.Equal(r.mustEnroll(a, token, "").RawTBSCertificate, second.RawTBSCertificate) {
			t.Errorf("after half of its life the next one has %v to go", left)
		}
		if _, err := r.ledger.Revoke(ledger.Revocation{Agent: "site-a", Serial: mtls.Serial(second), At: time.Now()}); err != nil {
			t.Fatal(err)
		}
		if third := r.mustEnroll(a, token, ""); third.SerialNumber.Cmp(second.SerialNumber) == 0 {
			t.Error("a certificate is handed out that is revoked")
		}

		many := r.token(ledger.Token{Name: "edge-", Prefix: true})
		r.mustEnroll(a, many, "edge-1")
		r.mustEnroll(a, many, "edge-1")
		_, err := r.enroll(a, many, "edge-2")
		wantRefusal(t, err, enrol.ReasonToken, "used")
	})
}

// TestOneKeyAfterTheClockWasSet: a certificate that is not valid yet, from when the relay's clock was ahead, is not handed out again.
func TestOneKeyAfterTheClockWasSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(t)
		token := r.token(ledger.Token{Name: "site-a"})
		a := newAgent(t)
		der, err := x509.MarshalPKIXPublicKey(a.key.Public())
		if err != nil {
			t.Fatal(err)
		}
		ahead := ledger.Certificate{
			Agent: "site-a", Serial: "a1", From: time.Now().Add(364 * day), To: time.Now().Add(365*day + lifetime), By: ledger.ByToken, At: time.Now(),
			Token: token.ID.String(), Key: fmt.Sprintf("%x", sha256.Sum256(der)),
		}
		if err := r.ledger.Issue(ahead); err != nil {
			t.Fatal(err)
		}
		if cert := r.mustEnroll(a, token, ""); time.Until(cert.NotAfter) != lifetime {
			t.Errorf("it is valid from %s to %s", cert.NotBefore, cert.NotAfter)
		}
	})
}

// TestOneKeyAtOnce: it gets one certificate also if it asks many times at once.
func TestOneKeyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(t)
		token := r.token(ledger.Token{Name: "site-a"})
		a := newAgent(t)
		var asking sync.WaitGroup
		for range 50 {
			asking.Go(func() { r.mustEnroll(a, token, "") })
		}
		asking.Wait()
		if len(r.issued) != 1 {
			t.Errorf("%d certificates were issued", len(r.issued))
		}
	})
}

// TestTokensThatAreNone: unknown, used, ended and void ones are refused in the same words and the same time, and are not told apart.
func TestTokensThatAreNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(t)
		ended := r.token(ledger.Token{Name: "site-a", End: time.Now().Add(time.Minute)})
		time.Sleep(2 * time.Minute)
		used, void, revoked, good := r.token(ledger.Token{Name: "site-a"}), r.token(ledger.Token{Name: "site-a"}), r.token(ledger.Token{Name: "site-b"}), r.token(ledger.Token{Name: "site-a"})
		r.mustEnroll(newAgent(t), used, "")
		if _, err := r.ledger.VoidToken(void.ID.String(), time.Now()); err != nil {
			t.Fatal(err)
		}
		if _, err := r.ledger.Revoke(ledger.Revocation{Agent: "site-b", At: time.Now()}); err != nil {
			t.Fatal(err)
		}
		wrong := good
		wrong.Secret[0] ^= 1
		messages := map[string]bool{}
		for name, token := range map[string]enrol.Token{
			"unknown": enrol.NewToken([]string{"relay:9443"}, r.pin), "wrong secret": wrong, "ended": ended, "used": used, "void": void, "for a name that was revoked": revoked,
		} {
			begun := time.Now()
			_, err := r.enroll(newAgent(t), token, "")
			if refusal, ok := enrol.RefusalFrom(err); !ok || refusal.Reason != enrol.ReasonToken {
				t.Errorf("%s: %v", name, err)
			}
			messages[status.Convert(err).Message()] = true
			if took := time.Since(begun); took != 100*time.Millisecond {
				t.Errorf("%s: it took %v", name, took)
			}
		}
		if len(messages) != 1 {
			t.Errorf("they are told apart: %v", messages)
		}
		r.mustEnroll(newAgent(t), good, "")
	})
}

// TestNamesAndRequests: what is not the token's fault does not spend it.
func TestNamesAndRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(t)
		token, many := r.token(ledger.Token{Name: "site-a"}), r.token(ledger.Token{Name: "edge-", Prefix: true, Uses: 3})
		_, err := r.enroll(newAgent(t), token, "site-b")
		wantRefusal(t, err, enrol.ReasonName, "the token is for site-a, and not for site-b")
		_, err = r.enroll(newAgent(t), many, "")
		wantRefusal(t, err, enrol.ReasonName, `whose names begin with "edge-"`)
		_, err = r.enroll(newAgent(t), many, "site-a")
		wantRefusal(t, err, enrol.ReasonName, "for edge-…, and not for site-a")
		_, err = r.enroll(newAgent(t), many, "edge-A")
		wantRefusal(t, err, enrol.ReasonName, "lower-case")

		weak, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		large, err := rsa.GenerateKey(rand.Reader, 8192/4) // within bounds; the request is made too long below
		if err != nil {
			t.Fatal(err)
		}
		for want, request := range map[string][]byte{
			"P-224":      requestOf(t, weak, x509.CertificateRequest{}),
			"extensions": requestOf(t, newAgent(t).key, x509.CertificateRequest{URIs: []*url.URL{mtls.AgentURI("pushrelay", "site-b")}}),
			"reading":    []byte("no request"),
			"allowed":    append(requestOf(t, large, x509.CertificateRequest{}), make([]byte, enrol.MaxRequestBytes)...),
		} {
			_, err := r.client("192.0.2.1", nil).Enroll(t.Context(), &relayv1.EnrollRequest{TokenId: token.ID[:], TokenSecret: token.Secret[:], CertificateRequest: request})
			wantRefusal(t, err, enrol.ReasonRequest, want)
		}
		r.mustEnroll(newAgent(t), token, "")

		// A subject counts for nothing.
		a := newAgent(t)
		request := requestOf(t, a.key, x509.CertificateRequest{RawSubject: []byte{0x30, 0x0f, 0x31, 0x0d, 0x30, 0x0b, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x04, 'r', 'o', 'o', 't'}})
		out, err := r.client("192.0.2.1", nil).Enroll(t.Context(), &relayv1.EnrollRequest{TokenId: many.ID[:], TokenSecret: many.Secret[:], Name: "edge-1", CertificateRequest: request})
		if err != nil {
			t.Fatal(err)
		}
		wantAgent(t, r.leaf(out.GetIssued()), "edge-1", a.key)
		_, err = r.enroll(newAgent(t), many, "edge-1")
		wantRefusal(t, err, enrol.ReasonName, "has a certificate already")
		r.known["edge-2"] = time.Now().Add(day) // with a certificate that nobody noted
		_, err = r.enroll(newAgent(t), many, "edge-2")
		wantRefusal(t, err, enrol.ReasonName, "ledger does not have")
		replacing := r.token(ledger.Token{Name: "edge-", Prefix: true, Replace: true, Uses: 3})
		r.mustEnroll(newAgent(t), replacing, "edge-2")
		r.mustEnroll(newAgent(t), replacing, "edge-1")
		if log := r.log.String(); strings.Count(log, "audit=replaced") != 1 {
			t.Errorf("the log says %s", log)
		}
	})
}

// TestFullDisk: nothing is handed out that the ledger does not have, and the token is good afterwards.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(t)
		token := r.token(ledger.Token{Name: "site-a"})
		r.spoil()
		for range 3 {
			cert, err := r.enroll(newAgent(t), token, "")
			wantRefusal(t, err, enrol.ReasonLater, "cannot write its ledger")
			if cert != nil || len(r.issued) > 0 {
				t.Fatal("a certificate is out")
			}
		}
		r.mend()
		a := newAgent(t)
		old := r.mustEnroll(a, token, "")
		r.spoil()
		_, err := r.renewLate(a.with(old), newAgent(t))
		wantRefusal(t, err, enrol.ReasonLater, "cannot write its ledger")
		r.mend()
		if _, err := r.renewLate(a.with(old), newAgent(t)); err != nil {
			t.Error(err)
		}
	})
}

// TestNoAuthority: a second relay of an authority says what to do.
func TestNoAuthority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(t, func(c *enrolserver.Config) { c.Authority, c.Ledger = nil, nil })
		_, err := r.enroll(newAgent(t), r.token(ledger.Token{Name: "site-a"}), "")
		wantRefusal(t, err, enrol.ReasonCannotSign, "ask the relay that made the token")
		if r.server.CanSign() {
			t.Error("it says that it can sign")
		}
	})
}

// TestHandshake: the relay shows its CA, speaks one protocol, asks for a certificate, and gives no ticket.
func TestHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(t)
		conn, err := r.dial("192.0.2.1", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		state := conn.ConnectionState()
		if shown := state.PeerCertificates; len(shown) != 2 || enrol.PinOf(shown[1].Raw) != r.pin || state.NegotiatedProtocol != enrol.Protocol || state.Version != tls.VersionTLS13 {
			t.Errorf("it shows %d certificates and speaks %q", len(shown), state.NegotiatedProtocol)
		}
		if config := r.server.TLSConfig(); !config.SessionTicketsDisabled || config.ClientAuth != tls.RequestClientCert || len(config.NextProtos) != 1 {
			t.Error("it gives tickets, or speaks more")
		}
	})
}

// TestOneCall: a connection is for one call, and for a while.
func TestOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(t)
		conn, err := r.dial("192.0.2.1", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		begun := time.Now()
		if _, err := io.Copy(io.Discard, bufio.NewReader(conn)); err != nil && time.Since(begun) != enrol.AttemptTimeout {
			t.Errorf("it ended after %v: %v", time.Since(begun), err)
		}
		if took := time.Since(begun); took > enrol.AttemptTimeout {
			t.Errorf("it stayed open for %v", took)
		}
	})
}

// TestFloods: strangers who fail have little, never nothing, and nobody else has less for it.
func TestFloods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(t)
		token := r.token(ledger.Token{Name: "site-", Prefix: true, Uses: 1000})
		for range 30 { // fails often
			_, err := r.enroll(newAgent(t), enrol.NewToken([]string{"relay:9443"}, r.pin), "")
			wantRefusal(t, err, enrol.ReasonToken, "")
		}
		open := 0
		for range 200 { // and says nothing
			if conn, err := r.dial("192.0.2.1", nil); err == nil {
				defer conn.Close()
				open++
			}
		}
		out, err := r.client("192.0.2.2", nil).Enroll(t.Context(), newAgent(t).ask(token, "site-1"))
		if err != nil || out.GetIssued() == nil {
			t.Errorf("another address: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		time.Sleep(4 * time.Second) // what waits longest makes room
		if _, err := r.client("192.0.2.1", nil).Enroll(ctx, newAgent(t).ask(token, "site-2")); err != nil {
			t.Errorf("the same address, by a token that is good: %v", err)
		}
	})
}

// TestManyAtOnce: an image that starts hundreds of times behind one address, and says no name, comes in, whole, and nothing counts as an attack.
func TestManyAtOnce(t *testing.T) {
	const agents = 300
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(t)
		token := r.token(ledger.Token{Name: "site-", Prefix: true, Uses: agents})
		done := make(chan error)
		for i := range agents {
			join := r.joining("192.0.2.1", token, fmt.Sprint("site-", i))
			go func() {
				for {
					_, err := join.Attempt(t.Context())
					if failed, ok := errors.AsType[*enrolclient.Error](err); !ok || !failed.Later {
						done <- err
						return
					}
					time.Sleep(time.Second)
				}
			}()
		}
		for range agents {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if known, _ := r.ledger.Token(token.ID.String(), time.Now()); known.Used != agents {
			t.Errorf("the token was used %d times", known.Used)
		}
		refused := r.refusals()
		delete(refused, string(enrol.ReasonLater)) // the token has a bucket
		if log := r.log.String(); len(refused) > 0 || strings.Contains(log, "reason=name") {
			t.Errorf("counted %v, and the log says %s", refused, log)
		}
		_, err := r.enroll(newAgent(t), token, "site-x")
		wantRefusal(t, err, enrol.ReasonToken, "")
	})
}

// TestFallbackName: it is taken where there is no other. An agent of an earlier release, which asks without a name first, does not fail by that.
func TestFallbackName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(t)
		many, one := r.token(ledger.Token{Name: "edge-", Prefix: true, Uses: 100}), r.token(ledger.Token{Name: "site-a"})
		for host, want := range map[string]string{"edge-1": "edge-1", "host": ""} {
			id, err := r.joining("192.0.2.1", many, host).Attempt(t.Context())
			if want == "" && (err == nil || !strings.Contains(err.Error(), "for edge-…, and not for host")) || want != "" && (err != nil || id.Agent.Agent != want) {
				t.Errorf("as %s: %v, %v", host, id, err)
			}
		}
		if diff := cmp.Diff(map[string]float64{"name": 1}, r.refusals()); diff != "" {
			t.Errorf("refusals (-want +got):\n%s", diff)
		}
		if id, err := r.joining("192.0.2.1", one, "host").Attempt(t.Context()); err != nil || id.Agent.Agent != "site-a" {
			t.Errorf("a token with a name: %v, %v", id, err)
		}
		for i := range 30 {
			_, err := r.enroll(newAgent(t), many, "")
			wantRefusal(t, err, enrol.ReasonName, `whose names begin with "edge-"`)
			r.mustEnroll(newAgent(t), many, fmt.Sprint("edge-earlier-", i))
		}
		for i := range 100 { // the address may have as many connections as before
			conn, err := r.dial("192.0.2.1", nil)
			if err != nil {
				t.Fatal(i, err)
			}
			defer conn.Close()
		}
		r.mustEnroll(newAgent(t), many, "edge-2")
	})
}

// TestNameOfAnotherTrustDomain: no token lets anybody in under it, and none is spent by that.
func TestNameOfAnotherTrustDomain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(t)
		token := r.token(ledger.Token{Name: "site-", Prefix: true, Replace: true})
		_, err := r.enroll(newAgent(t), token, "site-foreign")
		wantRefusal(t, err, enrol.ReasonName, "site-foreign is not of pushrelay")
		r.mustEnroll(newAgent(t), token, "site-a")
	})
}
