package tunnel_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/grpc/status"

	"pushrelay/internal/authority"
	"pushrelay/internal/change"
	"pushrelay/internal/enrol"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/grouping"
	"pushrelay/internal/mtls"
	"pushrelay/internal/scrape"
)

// revoked are the agents that a house throws out.
type revoked struct {
	mu    sync.Mutex
	names map[string]bool // guarded by mu
	late  bool            // guarded by mu; handshakes do not know it yet
	asked int             // guarded by mu; by a handshake and a hello in turn, while late
}

func (r *revoked) set(name string, revoked bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names[name] = revoked
}

func (r *revoked) refuses(id mtls.PeerID, _ [][]*x509.Certificate) (reason string, refused bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.late {
		r.asked++
	}
	return "it was revoked at noon", r.names[id.Agent] && r.asked%2 == 0
}

// revoke throws an agent out as the relay does.
func (h *house) revoke(name string) {
	h.revoked.set(name, true)
	h.registry.EndRevoked()
}

// TestRevokedAgentIsThrownOut: at once, with what is in flight, and it is told why.
func TestRevokedAgentIsThrownOut(t *testing.T) {
	came, decide, current := make(chan struct{}), make(chan struct{}), make(chan bool, 1)
	h := newHouse(t, pusherFunc(func(_ context.Context, r *change.Change) (change.Outcome, error) {
		close(came)
		<-decide
		current <- r.Current()
		return change.Outcome{}, change.Refuse(change.NotCurrent, "thrown out")
	}))
	body, target := io.Pipe()
	defer target.Close()
	site, _ := h.attach("site", scraperFunc(func(ctx context.Context, r *scrape.Request) (*scrape.Response, error) {
		context.AfterFunc(ctx, func() { body.CloseWithError(ctx.Err()) }) // as one over HTTP does
		return answer(body)(ctx, r)
	}))
	h.attach("other", answer(io.NopCloser(strings.NewReader("m 1\n"))))
	pushing := &change.Change{Operation: change.Replace, Key: must[grouping.Key](t)(grouping.New(grouping.Label{Name: "job", Value: "a"})), Body: []byte("m 1\n"), At: time.Now()}
	go site.spool.Apply(t.Context(), pushing)
	<-came
	scrapes := make(chan error, 1)
	go func() {
		_, _, err := h.scrape(t.Context(), "site")
		scrapes <- err
	}()
	if _, err := target.Write([]byte("m 1\n")); err != nil {
		t.Fatal(err)
	}
	h.revoke("site")
	close(decide)
	if <-current {
		t.Error("a change in flight may still be applied")
	}
	if err := <-scrapes; err == nil {
		t.Error("a scrape in flight came to a good end")
	}
	eventually(t, "the agent knows", func() bool { st := site.Status(); return st.Revoked && !st.Connected })
	if got := site.Status().LastError; got != "relay ended the session: this agent is revoked: it was revoked at noon" {
		t.Errorf("the agent says %q", got)
	}
	eventually(t, "the end is counted", func() bool { return h.endedFor("revoked") == 1 })
	if resp, _, err := h.scrape(t.Context(), "other"); err != nil || resp.Status != 200 {
		t.Errorf("a scrape of another agent: %v", err)
	}
}

// TestRevokedHandshakes: they are refused, also resumed ones, counted and told, and the agent has a hint. The next one after the revocation is lifted is
// let in.
func TestRevokedHandshakes(t *testing.T) {
	h := newHouse(t, pusherFunc(noPushes))
	h.agentLog = &logLines{}
	bare := &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{"h2"}, ServerName: "relay.test", GetClientCertificate: h.certificateOf("site"),
		ClientSessionCache: &tickets{LRU: tls.NewLRUClientSessionCache(1), came: make(chan struct{}, 8)},
	}
	h.knockOnce(bare, false)
	h.knockOnce(bare, true)
	h.revoked.set("site", true)
	h.knock(shake(bare))
	eventually(t, "the resumption is refused", func() bool { return h.refusedFor("revoked") == 1 })
	link, stop := h.start(h.authority, "site", scraperFunc(nil))
	eventually(t, "the agent knows", func() bool { return link.Status().LastError != "" })
	if got := link.Status(); got.Revoked || !strings.Contains(got.LastError, "relay refused this agent: it refuses this certificate: it may be revoked") {
		t.Errorf("the agent says %+v", got)
	}
	stop()
	if lines := h.log.with("agent refused in the TLS handshake", "reason=revoked", "audit=refused", "agent=site", "serial=", "it was revoked at noon"); len(lines) != 1 {
		t.Errorf("the relay logs %q", lines)
	}
	h.revoked.set("site", false)
	h.attach("site", scraperFunc(nil))
}

// knockOnce connects as an agent, wants the handshake to succeed, resumed or not, and waits for a ticket.
func (h *house) knockOnce(config *tls.Config, resumed bool) {
	h.t.Helper()
	conn := must[*tls.Conn](h.t)(tls.Dial("tcp", h.addr, config))
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err != nil || conn.ConnectionState().DidResume != resumed {
		h.t.Fatalf("handshake: %v, resumed %v", err, conn.ConnectionState().DidResume)
	}
	<-config.ClientSessionCache.(*tickets).came
}

// tickets is a session cache that says when a ticket came.
type tickets struct {
	LRU  tls.ClientSessionCache
	came chan struct{}
}

func (c *tickets) Get(string) (*tls.ClientSessionState, bool) { return c.LRU.Get("relay") }

func (c *tickets) Put(_ string, s *tls.ClientSessionState) {
	c.LRU.Put("relay", s)
	if s != nil {
		c.came <- struct{}{}
	}
}

// certificateOf returns a certificate of an agent of that name.
func (h *house) certificateOf(name string) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	h.t.Helper()
	issued := must[authority.Issued](h.t)(h.authority.IssueAgent(name))
	pair := must[tls.Certificate](h.t)(tls.X509KeyPair(issued.CertPEM, issued.KeyPEM))
	return func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
}

// TestRevokedBetweenHandshakeAndHello: whoever was let into the handshake just before gets no session, and the reason.
func TestRevokedBetweenHandshakeAndHello(t *testing.T) {
	h := newHouse(t, pusherFunc(noPushes))
	h.revoked.late = true
	h.revoked.set("site", true)
	link, _ := h.start(h.authority, "site", scraperFunc(nil))
	eventually(t, "the agent knows", func() bool { return link.Status().Revoked })
	if known := h.registry.Agents(); len(known) != 0 {
		t.Errorf("the relay knows %+v", known)
	}
	err := h.dialRaw("site").attach(t.Context(), hello())
	end, ok := status.Convert(err).Details()[0].(*relayv1.SessionEnd)
	if !ok || end.GetReason() != relayv1.SessionEndReason_SESSION_END_REASON_REVOKED {
		t.Errorf("the hello is answered with %v", err)
	}
	if lines := h.log.with("agent refused", "audit=refused", "agent=site", "reason=revoked", `detail="it was revoked at noon"`, "serial="); len(lines) != 2 {
		t.Errorf("the relay logs %q", lines)
	}
}

// TestRevokedIsAsked: a refused handshake may mean that the agent is revoked; the relay is asked, as often as it refuses until it says so, and once then.
func TestRevokedIsAsked(t *testing.T) {
	inBubble(t, 10*time.Millisecond, func(t *testing.T, h *house, _ *network) {
		var asked, said atomic.Int32
		h.askRevoked = func(context.Context) (string, bool) {
			asked.Add(1)
			return "site is revoked: it was revoked at noon", said.Load() > 0
		}
		h.revoked.set("site", true)
		link, _ := h.start(h.authority, "site", scraperFunc(nil))
		time.Sleep(time.Hour)
		if got, refused := int(asked.Load()), int(h.refusedFor("revoked")); got != refused || got < 5 {
			t.Errorf("it asked %d times, and was refused %d times", got, refused)
		}
		if st := link.Status(); st.Revoked || !strings.Contains(st.LastError, "it may be revoked") {
			t.Errorf("while the relay cannot tell, the agent says %+v", st)
		}
		said.Store(1)
		asked.Store(0)
		time.Sleep(2 * time.Hour)
		if st := link.Status(); !st.Revoked || st.LastError != "relay refused this agent: site is revoked: it was revoked at noon" || asked.Load() != 1 {
			t.Errorf("after %d questions the agent says %+v", asked.Load(), st)
		}
		h.revoked.set("site", false)
		waitFor(t, "attached", enrol.RevokedWait+enrol.RevokedSpread+5*time.Second, func() bool { return h.connected("site") && !link.Status().Revoked })
		h.revoke("site")
		time.Sleep(time.Hour)
		if st := link.Status(); !st.Revoked || asked.Load() != 2 {
			t.Errorf("revoked again, after %d questions the agent says %+v", asked.Load(), st)
		}
	})
}

// TestRevokedAgentsAskSeldom: every 5 to 10 minutes, whether the session was ended or the handshake is refused, and they are back when the revocation
// is lifted.
func TestRevokedAgentsAskSeldom(t *testing.T) {
	inBubble(t, 10*time.Millisecond, func(t *testing.T, h *house, _ *network) {
		link, _ := h.start(h.authority, "site", scraperFunc(nil))
		waitFor(t, "attached", 5*time.Second, func() bool { return h.connected("site") })
		h.revoke("site")
		const watched = 2 * time.Hour
		time.Sleep(watched)
		least, most := watched/(enrol.RevokedWait+enrol.RevokedSpread+time.Minute), watched/enrol.RevokedWait+1
		if asked := time.Duration(h.refusedFor("revoked")); asked < least || asked > most {
			t.Errorf("it asked %d times, want %d to %d times", asked, least, most)
		}
		if st := link.Status(); !st.Revoked {
			t.Errorf("the agent says %+v", st)
		}
		h.revoked.set("site", false)
		waitFor(t, "attached again", enrol.RevokedWait+enrol.RevokedSpread+5*time.Second, func() bool { return h.connected("site") && !link.Status().Revoked })
	})
}

// TestAnotherCertificateIsTriedAtOnce: whoever was thrown out and is given a new certificate does not wait for minutes.
func TestAnotherCertificateIsTriedAtOnce(t *testing.T) {
	inBubble(t, 10*time.Millisecond, func(t *testing.T, h *house, _ *network) {
		link, _ := h.start(h.authority, "site", scraperFunc(nil))
		waitFor(t, "attached", 5*time.Second, func() bool { return h.connected("site") })
		h.revoke("site")
		time.Sleep(time.Minute)
		h.revoked.set("site", false)
		issued := must[authority.Issued](t)(h.authority.IssueAgent("site"))
		err := os.WriteFile(filepath.Join(link.dir, "agent.crt"), issued.CertPEM, 0o600)
		if err = errors.Join(err, os.WriteFile(filepath.Join(link.dir, "agent.key"), issued.KeyPEM, 0o600)); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "attached again", 20*time.Second, func() bool { return h.connected("site") })
	})
}

// TestRefusedHandshakesFillNoLog: whoever stole a key may knock as often as they like.
func TestRefusedHandshakesFillNoLog(t *testing.T) {
	h := newHouse(t, pusherFunc(noPushes))
	h.revoked.set("site", true)
	thief := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, GetClientCertificate: h.certificateOf("site")}
	const knocks = 100
	for range knocks {
		h.knock(shake(thief))
	}
	eventually(t, "all are counted", func() bool { return h.refusedFor("revoked") == knocks })
	if lines := h.log.with("refused"); len(lines) != 1 {
		t.Errorf("%d lines, such as %q", len(lines), lines[0])
	}
}

// endedFor returns how many sessions ended for a reason.
func (h *house) endedFor(reason string) float64 {
	h.t.Helper()
	for _, family := range must[[]*dto.MetricFamily](h.t)(h.metrics.Gather()) {
		for _, m := range family.GetMetric() {
			if family.GetName() == "relay_sessions_ended_total" && m.GetLabel()[0].GetValue() == reason {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}
