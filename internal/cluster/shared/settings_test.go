package shared_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
	clientv3 "go.etcd.io/etcd/client/v3"

	"pushrelay/internal/cluster/enginetest"
	"pushrelay/internal/cluster/shared"
)

const leaderKey = "/test/leader"

// A setter has settings that run.
type setter struct {
	*shared.Settings

	name   string
	client *clientv3.Client
	reg    *prometheus.Registry
	term   atomic.Int64 // the revision at which it began to lead; it does not know when that ended
	logged *safeBuffer

	mu    sync.Mutex
	inUse map[shared.Kind]string // guarded by mu
}

// A safeBuffer takes a log.
type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

var errUnread = errors.New("line 1: it cannot be read")

func startSetter(t *testing.T, name string, client *clientv3.Client) *setter {
	t.Helper()
	s := &setter{name: name, client: client, reg: prometheus.NewRegistry(), logged: &safeBuffer{}, inUse: map[shared.Kind]string{}}
	s.Settings = shared.NewSettings(shared.SettingsConfig{
		Client: client, Prefix: "/test/settings/", Name: name, Logger: slog.New(slog.NewTextHandler(s.logged, nil)), Registerer: s.reg,
		Leads: func() (string, int64, bool) { term := s.term.Load(); return leaderKey, term, term != 0 },
		Apply: func(k shared.Kind, set shared.Setting) error {
			if strings.Contains(string(set.Text), "unread by "+name) {
				return errUnread
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.inUse[k] = textOf(set.Text)
			return nil
		},
	})
	if err := s.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Errorf("%s ended: %v", name, err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	return s
}

func textOf(text []byte) string {
	if text == nil {
		return "(none)"
	}
	return string(text)
}

// lead makes a relay the leader; the one before does not hear of it.
func (s *setter) lead(t *testing.T) {
	t.Helper()
	resp, err := s.client.Put(t.Context(), leaderKey, s.name)
	must(t, err)
	s.term.Store(resp.Header.GetRevision())
}

func (s *setter) uses(k shared.Kind) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inUse[k]
}

func wantUsed(t *testing.T, k shared.Kind, want string, setters ...*setter) {
	t.Helper()
	for _, s := range setters {
		enginetest.Eventually(t, fmt.Sprintf("%s goes by %q", s.name, want), func() bool { return s.uses(k) == want })
	}
	for _, s := range setters {
		if got := s.Current(k); textOf(got.Text) != want || got.Revision != setters[0].Current(k).Revision {
			t.Errorf("%s: Current() = %+v, want %q at one revision on all", s.name, got, want)
		}
	}
}

// TestSettingsAreTheLeaders: all go by the files of who leads, whole, from one revision on; one that led before sets nothing, also if it does not know.
func TestSettingsAreTheLeaders(t *testing.T) {
	client := enginetest.New(t, 1).Start(t, "a")["a"].Client()
	a, b := startSetter(t, "a", client), startSetter(t, "b", client)
	if err := a.Set(t.Context(), shared.ConfigFile, []byte("x")); !errors.Is(err, shared.ErrNotLeading) {
		t.Errorf("one that does not lead: %v", err)
	}
	a.lead(t)
	for _, text := range [][]byte{[]byte("first"), []byte("second"), nil, {}, []byte("third")} {
		must(t, a.Set(t.Context(), shared.ConfigFile, text))
		if got := a.uses(shared.ConfigFile); got != textOf(text) {
			t.Errorf("when Set returns %q is in use, want %q", got, textOf(text))
		}
		wantUsed(t, shared.ConfigFile, textOf(text), a, b)
	}
	must(t, a.Set(t.Context(), shared.PolicyFile, []byte("policy")))
	wantUsed(t, shared.PolicyFile, "policy", a, b)
	at := a.Current(shared.ConfigFile).Revision
	must(t, a.Set(t.Context(), shared.ConfigFile, []byte("third")))
	if got := a.Current(shared.ConfigFile).Revision; got != at {
		t.Errorf("what is set already was set again, at %d after %d", got, at)
	}
	b.lead(t)
	if err := a.Set(t.Context(), shared.ConfigFile, []byte("late")); !errors.Is(err, shared.ErrNotLeading) {
		t.Errorf("one that led before: %v", err)
	}
	must(t, b.Set(t.Context(), shared.ConfigFile, []byte("of b")))
	if !strings.Contains(b.logged.String(), "level=WARN") || !strings.Contains(b.logged.String(), "before=a") {
		t.Errorf("the new leader's other file was not told loudly: %s", b.logged)
	}
	must(t, b.Set(t.Context(), shared.PolicyFile, nil))
	wantUsed(t, shared.PolicyFile, "policy", a, b)
	if want := []string{"the policy file of this relay says something else than that of a, by which all relays go"}; !cmp.Equal(b.Words(), want) {
		t.Errorf("of a leader without a policy: %q, want %q", b.Words(), want)
	}
	wantUsed(t, shared.ConfigFile, "of b", a, b, startSetter(t, "anew", client))
}

// TestOtherFilesAreTold: by a metric, words and one line, while all go by the leader's.
func TestOtherFilesAreTold(t *testing.T) {
	client := enginetest.New(t, 1).Start(t, "a")["a"].Client()
	a, b := startSetter(t, "a", client), startSetter(t, "b", client)
	b.Own(shared.PolicyFile, []byte("mine"))
	want := func(differs, refused int, words ...string) {
		t.Helper()
		for name, want := range map[string]int{"differ": differs, "refused": refused} {
			text := fmt.Sprintf("relay_cluster_settings_%s{file=\"policy\"} %d\n", name, want)
			enginetest.Eventually(t, text, func() bool {
				all, err := testutil.CollectAndFormat(b.reg, expfmt.TypeTextPlain, "relay_cluster_settings_"+name)
				return err == nil && strings.Contains(string(all), text)
			})
		}
		if diff := cmp.Diff(words, b.Words()); diff != "" {
			t.Errorf("Words() (-want +got):\n%s", diff)
		}
	}
	want(0, 0)
	a.lead(t)
	must(t, a.Set(t.Context(), shared.PolicyFile, []byte("the leader's")))
	must(t, a.Set(t.Context(), shared.PolicyFile, []byte("the leader's other")))
	wantUsed(t, shared.PolicyFile, "the leader's other", a, b)
	differs := "the policy file of this relay says something else than that of a, by which all relays go"
	want(1, 0, differs)
	if n := strings.Count(b.logged.String(), "says something else"); n != 1 {
		t.Errorf("it was logged %d times:\n%s", n, b.logged)
	}
	must(t, a.Set(t.Context(), shared.PolicyFile, []byte("unread by b")))
	enginetest.Eventually(t, "b has heard", func() bool { return string(b.Current(shared.PolicyFile).Text) == "unread by b" })
	want(1, 1, differs, "the policy file of a, by which all relays go, cannot be put to use here: line 1: it cannot be read")
	if got := b.uses(shared.PolicyFile); got != "the leader's other" {
		t.Errorf("b goes by %q, want the earlier one", got)
	}
	b.Own(shared.PolicyFile, []byte("unread by b"))
	want(0, 1, "the policy file of a, by which all relays go, cannot be put to use here: line 1: it cannot be read")
	must(t, a.Set(t.Context(), shared.PolicyFile, nil))
	b.Own(shared.PolicyFile, nil)
	wantUsed(t, shared.PolicyFile, "(none)", a, b)
	want(0, 0)
	for _, reg := range []*prometheus.Registry{a.reg, b.reg} {
		if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
			t.Errorf("metrics: %v, %v", problems, err)
		}
	}
	err := a.Set(t.Context(), shared.PolicyFile, make([]byte, shared.MaxTextBytes+1))
	if err == nil || !strings.Contains(err.Error(), "it has 1048577 bytes, 1048576 are allowed") {
		t.Errorf("a file that is too large: %v", err)
	}
	must(t, a.Set(t.Context(), shared.PolicyFile, make([]byte, shared.MaxTextBytes)))
	err = a.Set(t.Context(), shared.PolicyFile, []byte("unread by a"))
	if !errors.Is(err, errUnread) {
		t.Errorf("a file that the leader cannot read: %v", err)
	}
}

// TestSettingsOverFaults: a setting whose answer was lost is set once, and without a majority it is said that there is none.
func TestSettingsOverFaults(t *testing.T) {
	client, way := enginetest.OverFaulty(enginetest.New(t, 1).Start(t, "a")["a"])
	a := startSetter(t, "a", client)
	a.lead(t)
	way.LoseAnswer()
	must(t, a.Set(t.Context(), shared.ConfigFile, []byte("once")))
	resp, err := client.Get(t.Context(), "/test/settings/config")
	must(t, err)
	if got := resp.Kvs[0].Version; got != 1 {
		t.Errorf("it was written %d times", got)
	}
	resume := way.Cut()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := a.Set(ctx, shared.ConfigFile, []byte("never")); err == nil || !strings.Contains(err.Error(), "no majority of the cluster answers") {
		t.Errorf("without an answer: %v", err)
	}
	resume()
	must(t, a.Set(t.Context(), shared.ConfigFile, []byte("again")))
	wantUsed(t, shared.ConfigFile, "again", a)
}
