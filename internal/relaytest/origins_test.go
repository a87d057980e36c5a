package relaytest_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"pushrelay/internal/change"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/grouping"
	"pushrelay/internal/mtls"
	"pushrelay/internal/relay"
	"pushrelay/internal/relaytest"
	"pushrelay/internal/tunnel"
)

// A sender is an agent that sends just what the test wants, over the real tunnel.
type sender struct {
	t       *testing.T
	welcome tunnel.Welcome
	stream  relayv1.RelayService_PushClient
	attach  relayv1.RelayService_AttachClient
	number  uint64
	close   func()
}

// attach attaches to the relay on that data dir and asks after the journal.
func attach(t *testing.T, r *relaytest.Relay, dataDir string, journal [16]byte) *sender {
	t.Helper()
	dir := t.TempDir()
	if _, err := relay.IssueAgentCertificate(dataDir, "site", dir); err != nil {
		t.Fatal(err)
	}
	certificates, err := mtls.NewReloader(mtls.Config{Role: mtls.Agent, Files: mtls.Files{
		CAFile: filepath.Join(dir, "ca.crt"), CertFile: filepath.Join(dir, "agent.crt"), KeyFile: filepath.Join(dir, "agent.key"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	cc, err := grpc.NewClient(r.GRPCAddr().String(), grpc.WithTransportCredentials(credentials.NewTLS(mtls.AgentTLSConfig(certificates, "127.0.0.1"))))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &sender{t: t, close: func() { cancel(); cc.Close() }}
	t.Cleanup(s.close)
	client := relayv1.NewRelayServiceClient(cc)
	if s.attach, err = client.Attach(ctx); err != nil {
		t.Fatal(err)
	}
	process := make([]byte, 16)
	rand.Read(process)
	hello := &relayv1.Hello{ProtocolVersion: tunnel.ProtocolVersion, ProcessId: process, JournalIds: tunnel.JournalIDsToProto([][16]byte{journal})}
	if err := s.attach.Send(&relayv1.AttachRequest{Event: &relayv1.AttachRequest_Hello{Hello: hello}}); err != nil {
		t.Fatal(err)
	}
	first, err := s.attach.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if s.welcome, err = tunnel.WelcomeFromProto(first.GetWelcome()); err != nil {
		t.Fatal(err)
	}
	if s.stream, err = client.Push(ctx); err != nil {
		t.Fatal(err)
	}
	s.part(&relayv1.PushRequest{Part: &relayv1.PushRequest_Session{Session: first.GetWelcome().GetSession()}})
	return s
}

func (s *sender) part(r *relayv1.PushRequest) {
	s.t.Helper()
	if err := s.stream.Send(r); err != nil {
		s.t.Fatal(err)
	}
}

// send sends a push and returns its verdict.
func (s *sender) send(r change.Change) (change.Outcome, error) {
	s.t.Helper()
	s.number++
	begin := tunnel.ChangeToProto(&r)
	begin.Change = s.number
	s.part(&relayv1.PushRequest{Part: &relayv1.PushRequest_Begin{Begin: begin}})
	s.part(&relayv1.PushRequest{Part: &relayv1.PushRequest_Chunk{Chunk: r.Body}})
	s.part(&relayv1.PushRequest{Part: &relayv1.PushRequest_End{End: &relayv1.ChangeEnd{}}})
	verdict, err := s.stream.Recv()
	if err != nil {
		s.t.Fatal(err)
	}
	o := tunnel.VerdictFromProto(verdict)
	return o, o.Err()
}

// isFinal says that an error is one of a change that will never be taken.
func isFinal(err error) bool { return err != nil && change.OutcomeOf(err).IsFinal() }

// journalled returns the pushes of a journal: one that is applied, one that is rejected, one that is malformed, a failure,
// and a delete.
func journalled(t *testing.T, journal [16]byte) []change.Change {
	t.Helper()
	key := func(job string) grouping.Key {
		k, err := grouping.New(grouping.Label{Name: "job", Value: job})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	all := []change.Change{
		{Operation: change.Replace, Key: key("kept"), Body: []byte("# TYPE m counter\nm 1\n")},
		{Operation: change.Replace, Key: key("clash"), Body: []byte("# TYPE m gauge\nm 1\n")},
		{Operation: change.Replace, Key: key("malformed"), Body: []byte("m\n")},
		{Operation: change.Fail, Key: key("failed")},
		{Operation: change.Merge, Key: key("deleted"), Body: []byte("n 1\n")},
		{Operation: change.Delete, Key: key("deleted")},
	}
	for i := range all {
		all[i].Origin = &change.Origin{Journal: journal, Sequence: uint64(i) + 1, Digest: change.DigestOf(&all[i])}
	}
	return all
}

// TestExactlyOnceOverARestart sends a journal to the whole relay, and again after it was restarted, and once more when the
// agent has said that it is past all of it.
func TestExactlyOnceOverARestart(t *testing.T) {
	var journal [16]byte
	rand.Read(journal[:])
	all := journalled(t, journal)
	opts := relaytest.Options(t)
	r := relaytest.Start(t, opts)
	s := attach(t, r, opts.DataDir, journal)
	if len(s.welcome.Journals) != 0 {
		t.Errorf("a new relay knows the journal: %+v", s.welcome.Journals)
	}
	for i, rejected := range []bool{false, true, true, false, false, false} {
		if result, err := s.send(all[i]); isFinal(err) != rejected || err == nil && (result.Kind != change.Applied || result.Duplicate) {
			t.Errorf("change %d = %+v, %v", i, result, err)
		}
	}
	wantMetrics(t, r, `relay_changes_total{result="applied"} 4`, `relay_changes_total{result="rejected"} 2`,
		`m{agent="site",instance="",job="kept"} 1`, `push_time_seconds{agent="site",instance="",job="failed"} 0`, "relay_store_tombstones 2")
	store := s.welcome.StoreID
	s.close()
	r.Stop()

	r = relaytest.Start(t, again(t, opts))
	s = attach(t, r, opts.DataDir, journal)
	want := tunnel.JournalState{Journal: journal, Decided: 6, Digest: all[5].Origin.Digest}
	if s.welcome.StoreID != store || len(s.welcome.Journals) != 1 || s.welcome.Journals[0] != want {
		t.Errorf("the relay says %+v after its restart, want store %x and %+v", s.welcome, store, want)
	}
	for i, rejected := range []bool{false, true, true, false, false, false} {
		if result, err := s.send(all[i]); isFinal(err) != rejected || result.Duplicate == rejected {
			t.Errorf("change %d sent again = %+v, %v", i, result, err)
		}
	}
	wantMetrics(t, r, `relay_changes_total{result="applied"} 0`, `relay_changes_total{result="duplicate"} 6`, "relay_store_groups 3", "relay_store_tombstones 2")
	passed := tunnel.SpoolState{Pending: 3, DecidedThrough: 6, Journal: journal}
	if err := s.attach.Send(&relayv1.AttachRequest{Event: &relayv1.AttachRequest_Spool{Spool: tunnel.SpoolToProto(passed)}}); err != nil {
		t.Fatal(err)
	}
	relaytest.Eventually(t, "the tombstones go", func() bool {
		_, metrics := relaytest.Get(t, r.URL+"/metrics")
		return strings.Contains(metrics, "relay_store_tombstones 0\n") && strings.Contains(metrics, "relay_agent_spool_pending{agent=\"site\"} 3\n")
	})
	s.close()
}

// TestSupersededSessionChangesNothing: what an old session sends after another has begun is not applied.
func TestSupersededSessionChangesNothing(t *testing.T) {
	opts := relaytest.Options(t)
	r := relaytest.Start(t, opts)
	all := journalled(t, [16]byte{1})
	old := attach(t, r, opts.DataDir, [16]byte{1})
	if _, err := old.send(all[4]); err != nil {
		t.Fatal(err)
	}
	current := attach(t, r, opts.DataDir, [16]byte{1})
	if want := uint64(5); len(current.welcome.Journals) != 1 || current.welcome.Journals[0].Decided != want {
		t.Errorf("the new session hears %+v, want %d decided", current.welcome.Journals, want)
	}
	begin := tunnel.ChangeToProto(&all[5])
	begin.Change = 2
	for _, part := range []*relayv1.PushRequest{
		{Part: &relayv1.PushRequest_Begin{Begin: begin}}, {Part: &relayv1.PushRequest_End{End: &relayv1.ChangeEnd{}}},
	} {
		old.stream.Send(part) // the stream may be gone already
	}
	if verdict, err := old.stream.Recv(); err == nil && verdict.GetLater().GetReason() != relayv1.LaterReason_LATER_REASON_SESSION_ENDING {
		t.Errorf("the superseded session heard %v", verdict)
	}
	wantMetrics(t, r, `n{agent="site",instance="",job="deleted"} 1`, `relay_changes_total{result="applied"} 1`)
	if result, err := current.send(all[5]); err != nil || result.Duplicate {
		t.Errorf("the same change by the new session = %+v, %v", result, err)
	}
	old.close()
	current.close()
}

// again returns the options for another relay on the same data dir.
func again(t *testing.T, opts relay.Options) relay.Options {
	t.Helper()
	next := relaytest.Options(t)
	next.DataDir = opts.DataDir
	return next
}

func wantMetrics(t *testing.T, r *relaytest.Relay, lines ...string) {
	t.Helper()
	_, metrics := relaytest.Get(t, r.URL+"/metrics")
	for _, line := range lines {
		if !strings.Contains(metrics, "\n"+line+"\n") {
			t.Errorf("the relay's metrics lack %q:\n%s", line, about(metrics, line))
		}
	}
}

// about returns the lines of the same metric.
func about(metrics, line string) string {
	name, _, _ := strings.Cut(line, "{")
	var found strings.Builder
	for l := range strings.Lines(metrics) {
		if strings.HasPrefix(l, strings.Fields(name)[0]) {
			fmt.Fprint(&found, l)
		}
	}
	return found.String()
}
