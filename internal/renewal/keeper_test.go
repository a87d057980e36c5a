package renewal_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/enrol"
	"pushrelay/internal/enrol/enrolclient"
	"pushrelay/internal/enroltest"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/identity"
	"pushrelay/internal/mtls"
	"pushrelay/internal/renewal"
)

const (
	day  = 24 * time.Hour
	life = 30 * day
)

// site is an agent with an identity, and relays that come and go. It takes the place of its links: a session is there if the relay is up and takes the
// certificate by its own clock.
type site struct {
	t      *testing.T
	ca     *enroltest.Authority
	relays []*relay
	store  identity.Store
	certs  *mtls.Reloader
	keeper *renewal.Keeper
	reg    *prometheus.Registry
	log    *lines
	cfg    renewal.Config

	mu      sync.Mutex
	dialled int // guarded by mu; how often it was told to dial at once
	revoked int // guarded by mu; how often it was told that it is revoked
}

type relay struct {
	*enroltest.Relay
	net *enroltest.Network

	earlier atomic.Bool // of a release that renews nothing
}

// lines are those of a log.
type lines struct {
	mu  sync.Mutex
	all []string // guarded by mu
}

func (l *lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(line))
	return len(line), nil
}

func (l *lines) with(part string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.all {
		if strings.Contains(line, part) {
			found = append(found, line)
		}
	}
	return found
}

// newSite enrols an agent at the first of count relays of one authority, whose clocks are ahead by skew. It must be called in a bubble.
func newSite(t *testing.T, count int, skew time.Duration) *site {
	t.Helper()
	s := &site{t: t, ca: enroltest.NewAuthority(t, "CA"), store: identity.In(t.TempDir()), reg: prometheus.NewRegistry(), log: &lines{}}
	var addresses []string
	for i := range count {
		r := &relay{Relay: enroltest.NewRelay(s.ca, "relay.test"), net: enroltest.NewNetwork()}
		r.Skew, r.Life = skew, life
		t.Cleanup(func() { r.net.Close() })
		r.Serve(t, r.net)
		s.relays = append(s.relays, r)
		addresses = append(addresses, fmt.Sprintf("relay.test:%d", i))
	}
	client := enrolclient.New(enrolclient.Config{Dial: func(ctx context.Context, _, address string) (net.Conn, error) {
		return s.relays[slices.Index(addresses, address)].net.Dial(ctx)
	}})
	token := s.relays[0].Token("site-a", addresses...)
	id, err := (&enrolclient.Join{Client: client, Store: s.store, Token: &token}).Attempt(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.share()
	logger := slog.New(slog.NewTextHandler(s.log, nil))
	if s.certs, err = mtls.NewReloader(mtls.Config{Role: mtls.Agent, Files: id.Files(), Renewal: renewal.Advice, Logger: logger, CheckInterval: time.Hour}); err != nil {
		t.Fatal(err)
	}
	s.cfg = renewal.Config{Identity: id, Certificates: s.certs, Client: client, Relays: id.Relays, Metrics: renewal.NewMetrics(s.reg), Logger: logger}
	return s
}

// share has all relays know what each has issued, as those of one ledger.
func (s *site) share() {
	for _, r := range s.relays {
		for _, other := range s.relays {
			for _, cert := range other.Issued() {
				if !slices.ContainsFunc(r.Issued(), cert.Equal) {
					r.Know(cert)
				}
			}
		}
	}
}

// run runs the keeper until the end of the test.
func (s *site) run() {
	s.keeper = renewal.New(s.cfg)
	sessions := []renewal.Session{}
	for _, r := range s.relays {
		sessions = append(sessions, &session{s, r})
	}
	s.during(func(ctx context.Context) { s.keeper.Run(ctx, sessions) })
}

// during runs something until the end of the test.
func (s *site) during(run func(ctx context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { run(ctx) })
	s.t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

// connected says whether there is a session, and tells the keeper of a refusal as a link does.
func (s *site) connected(r *relay) bool {
	if r.net.IsDown() {
		return false
	}
	m := s.certs.Material()
	if m.CheckValidity(time.Now()) != nil || time.Now().Add(r.Skew).After(m.NotAfter()) {
		s.keeper.Expired()
		return false
	}
	return true
}

// session is a way to a relay.
type session struct {
	site  *site
	relay *relay
}

func (s *session) IsOpen() bool { return s.site.connected(s.relay) }

func (s *session) Renew(_ context.Context, request []byte) (*relayv1.IssuedCertificate, error) {
	if s.relay.earlier.Load() {
		return nil, &enrol.Refusal{Reason: enrol.ReasonCannotSign, Message: "the relay renews no certificates"}
	}
	issued, err := s.relay.Renew(s.site.certs.Material().Leaf(), request)
	if refusal, ok := enrol.RefusalFrom(err); ok {
		return nil, refusal
	}
	return issued, err
}

func (s *session) DialNow() {
	s.site.mu.Lock()
	defer s.site.mu.Unlock()
	s.site.dialled++
}

func (s *session) Revoked() {
	s.site.mu.Lock()
	defer s.site.mu.Unlock()
	s.site.revoked++
}

// counts returns how often each result came.
func (s *site) counts() map[string]float64 {
	s.t.Helper()
	families, err := s.reg.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	counts := map[string]float64{}
	for _, m := range families[0].GetMetric() {
		if m.GetCounter().GetValue() > 0 {
			counts[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
		}
	}
	return counts
}

// issued counts the certificates of all relays, each once.
func (s *site) issued() int {
	s.share()
	return len(s.relays[0].Issued())
}

// whole says that the identity on the disk is one.
func (s *site) whole() {
	s.t.Helper()
	found, err := s.store.Load()
	if err != nil || len(found) != 1 {
		s.t.Fatalf("the identity: %v, %v", found, err)
	}
	if _, err := mtls.NewReloader(mtls.Config{Role: mtls.Agent, Files: found[0].Files()}); err != nil {
		s.t.Fatal(err)
	}
}

// TestYears: over years with relays that come and go, of which one cannot sign, and with clocks that differ by a day, the agent has a certificate whenever it has a
// relay, and no more of them than it needs.
func TestYears(t *testing.T) {
	for _, skew := range []time.Duration{-day, 0, day} {
		t.Run(skew.String(), func(t *testing.T) {
			if testing.Short() && skew != 0 {
				t.Skip("with -short by clocks that are right alone")
			}
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, 2, skew)
				s.relays[0].Refuses = &enrol.Refusal{Reason: enrol.ReasonCannotSign, Message: "no authority here"}
				s.run()
				const years = 2
				begun, random := time.Now(), rand.New(rand.NewPCG(1, 2))
				absences, away := 0, time.Duration(0)
				for time.Since(begun) < years*365*day {
					time.Sleep(time.Duration(random.Int64N(int64(40 * day))))
					synctest.Wait()
					if !s.connected(s.relays[1]) {
						t.Fatalf("after %v: the agent is not let in", time.Since(begun))
					}
					for _, r := range s.relays {
						r.net.SetDown(true)
					}
					absence := time.Duration(random.Int64N(int64(50 * day)))
					time.Sleep(absence)
					if absence > life/2 {
						absences++
					}
					away += absence
					for _, r := range s.relays {
						r.net.SetDown(false)
					}
					s.share()
					s.connected(s.relays[1]) // a link dials
					time.Sleep(2 * time.Hour)
					synctest.Wait()
					if !s.connected(s.relays[1]) {
						t.Fatalf("after %v, 2 h after an absence of %v: the agent is not let in; %v", time.Since(begun), absence, s.keeper.Status())
					}
					s.whole()
				}
				counts, issued := s.counts(), s.issued()
				if least, most := int(years*365*day-away)/int(life)*9/10, years*365/15+absences; issued < least || issued > most {
					t.Errorf("%d certificates were issued, want %d to %d", issued, least, most)
				}
				if counts["renewed"] == 0 || counts["renewed_late"] == 0 || int(counts["renewed"]+counts["renewed_late"]) != issued-1 {
					t.Errorf("%d certificates and results %v", issued, counts)
				}
				if told := s.log.with("could not be renewed yet"); len(told) == 0 || time.Duration(len(told))*day > away+time.Duration(8*absences)*day {
					t.Errorf("%d lines of it in the log, for %v days away", len(told), away/day)
				}
			})
		})
	}
}

// TestRenewedInTime: a relay that is there has the certificate renewed between a half and six tenths of its life, and never late; agents that enrolled together
// do not renew together.
func TestRenewedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dues := map[time.Time]bool{}
		for range 8 {
			s := newSite(t, 1, 0)
			s.run()
			issued := time.Now()
			due := s.keeper.Status().Due.Sub(issued)
			if due < life/2-time.Second || due > life*6/10 {
				t.Errorf("due %v after it was issued", due)
			}
			dues[s.keeper.Status().Due] = true
			time.Sleep(due - time.Minute)
			if s.issued() != 1 {
				t.Error("it was renewed before that")
			}
			time.Sleep(2 * time.Minute)
			if synctest.Wait(); s.issued() != 2 || s.counts()["renewed"] != 1 {
				t.Errorf("when it is due: %v", s.counts())
			}
		}
		if len(dues) < 8 {
			t.Errorf("8 agents renew at %d moments", len(dues))
		}
	})
}

// TestEarlierRelay: a relay that renews nothing is asked seldom, a person is told what to do in time, and when it is upgraded all is well.
func TestEarlierRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 1, 0)
		s.relays[0].earlier.Store(true)
		s.run()
		s.during(func(ctx context.Context) { s.certs.Run(ctx) })
		time.Sleep(life*2/3 + day)
		if told := s.log.with("certificate ends soon"); len(told) == 0 || !strings.Contains(told[0], "a relay of an earlier release cannot") || !strings.Contains(told[0], "relay-agent enroll") {
			t.Errorf("the log says %q", told)
		}
		if tries := s.counts()["cannot_sign"]; tries == 0 || tries > 24*6*2 {
			t.Errorf("it was tried %v times in six days", tries)
		}
		if st := s.keeper.Status(); !strings.Contains(st.LastError, "renews no certificates") || st.LastAttempt.IsZero() {
			t.Errorf("Status() = %+v", st)
		}
		s.relays[0].earlier.Store(false)
		time.Sleep(time.Hour)
		if synctest.Wait(); s.counts()["renewed"] != 1 || s.keeper.Status().LastError != "" {
			t.Errorf("after the upgrade: %v", s.counts())
		}
	})
}

// TestRevoked: the agent asks every 5 to 10 minutes, says so, and is renewed when that is lifted.
func TestRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 1, 0)
		s.relays[0].net.SetDown(true)
		s.run()
		time.Sleep(life + day)
		s.relays[0].Revoke("site-a")
		s.relays[0].net.SetDown(false)
		time.Sleep(2 * time.Hour) // the last wait is over
		before := s.counts()["revoked"]
		time.Sleep(10 * time.Hour)
		if asked := s.counts()["revoked"] - before; asked < 60 || asked > 121 {
			t.Errorf("it asked %v times in 10 h", asked)
		}
		if st := s.keeper.Status(); !st.Revoked || !strings.Contains(st.LastError, "revoked") {
			t.Errorf("Status() = %+v", st)
		}
		if told := s.log.with("this agent is revoked"); len(told) != 1 {
			t.Errorf("the log says it %d times", len(told))
		}
		s.mu.Lock()
		if s.revoked == 0 || s.dialled != 0 {
			t.Errorf("links were told that %d times, and to dial %d times", s.revoked, s.dialled)
		}
		s.mu.Unlock()
		s.relays[0].Allow("site-a")
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		if st := s.keeper.Status(); s.counts()["renewed_late"] != 1 || st.Revoked || st.LastError != "" || s.dialled != 1 {
			t.Errorf("after that: %v, %+v, links dial %d times", s.counts(), st, s.dialled)
		}
	})
}

// TestRevokedAndEnrolledAgain: what was said of the earlier certificate is not said of the one in its place.
func TestRevokedAndEnrolledAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 1, 0)
		s.relays[0].net.SetDown(true)
		s.run()
		time.Sleep(life + day)
		s.relays[0].Revoke("site-a")
		s.relays[0].net.SetDown(false)
		time.Sleep(2 * time.Hour)
		if st := s.keeper.Status(); !st.Revoked {
			t.Fatalf("Status() = %+v", st)
		}
		token := s.relays[0].Token("site-a", "relay.test:0")
		if _, err := (&enrolclient.Join{Client: s.cfg.Client, Store: s.store, Token: &token}).Attempt(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		if st := s.keeper.Status(); st.Revoked || st.LastError != "" || !s.connected(s.relays[0]) {
			t.Errorf("after that: %+v", st)
		}
	})
}

// TestTokenWhenRelaysRefuse: an agent that was away for too long takes the token that it was given, and one without says what to do.
func TestTokenWhenRelaysRefuse(t *testing.T) {
	for _, has := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, 1, 0)
			if has {
				token := s.relays[0].Token("site-a", "relay.test:0")
				s.cfg.Join = &enrolclient.Join{Client: s.cfg.Client, Store: s.store, Token: &token, Names: enrolclient.Names{Name: "site-a"}}
			}
			s.relays[0].net.SetDown(true)
			s.run()
			time.Sleep(life + day)
			s.relays[0].ForgetIssued()
			s.relays[0].net.SetDown(false)
			time.Sleep(2 * time.Hour)
			synctest.Wait()
			st := s.keeper.Status()
			if has && (s.counts()["enrolled"] != 1 || st.LastError != "" || !s.connected(s.relays[0])) {
				t.Errorf("with a token: %v, %+v", s.counts(), st)
			}
			if !has && !strings.Contains(st.LastError, "relay-server agents token site-a, and here relay-agent enroll TOKEN") {
				t.Errorf("without a token: %+v", st)
			}
			s.whole()
		})
	}
}

// TestClockFarOff: an agent whose clock is ahead of a certificate's end by the time it comes says so, and has few of them issued.
func TestClockFarOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 1, 0)
		s.relays[0].net.SetDown(true)
		s.run()
		time.Sleep(life + day)
		s.relays[0].Change(func() { s.relays[0].Skew = -2 * life }) // the relay's clock says what the agent's did long ago
		s.relays[0].net.SetDown(false)
		time.Sleep(2 * time.Hour)
		before := s.issued()
		time.Sleep(day)
		if many := s.issued() - before; many < 20 || many > 25 {
			t.Errorf("%d certificates were issued in a day", many)
		}
		if st := s.keeper.Status(); !strings.Contains(st.LastError, "check both clocks") {
			t.Errorf("Status() = %+v", st)
		}
		s.relays[0].Change(func() { s.relays[0].Skew = 0 })
		time.Sleep(2 * time.Hour)
		if synctest.Wait(); !s.connected(s.relays[0]) {
			t.Errorf("when the clocks are right: %+v", s.keeper.Status())
		}
	})
}

// TestFullDisk: what cannot be written is tried again, and the earlier certificate is used until then.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 1, 0)
		s.run()
		dir := s.cfg.Identity.Dir()
		makeReadOnly(t, dir, true)
		time.Sleep(life*6/10 + 3*time.Hour)
		s.whole()
		if st := s.keeper.Status(); s.counts()["failed"] == 0 || st.LastError == "" || !s.connected(s.relays[0]) {
			t.Errorf("with a full disk: %v, %+v", s.counts(), st)
		}
		makeReadOnly(t, dir, false)
		time.Sleep(2 * time.Hour)
		if synctest.Wait(); s.counts()["renewed"] != 1 || s.keeper.Status().LastError != "" {
			t.Errorf("with room again: %v", s.counts())
		}
		s.whole()
	})
}

// TestSomebodyEnrolsAgain: what another process wrote meanwhile is renewed next.
func TestSomebodyEnrolsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 1, 0)
		s.run()
		time.Sleep(life / 4)
		token := s.relays[0].Token("site-a", "relay.test:0")
		again, err := (&enrolclient.Join{Client: s.cfg.Client, Store: s.store, Token: &token}).Attempt(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(life / 3)
		if !s.certs.Material().Leaf().Equal(again.Certificate) || s.issued() != 2 {
			t.Errorf("%d certificates were issued", s.issued())
		}
		time.Sleep(life / 3)
		if synctest.Wait(); s.counts()["renewed"] != 1 {
			t.Errorf("results %v", s.counts())
		}
	})
}
