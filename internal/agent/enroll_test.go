package agent_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/exporter-toolkit/web"

	"pushrelay/internal/agent"
	"pushrelay/internal/enrol"
	"pushrelay/internal/enroltest"
	"pushrelay/internal/identity"
	"pushrelay/internal/mtls"
	"pushrelay/internal/relaytest"
)

// newRelay returns a relay that lets agents in, and its address.
func newRelay(t *testing.T) (*enroltest.Relay, string) {
	t.Helper()
	relay := enroltest.NewRelay(enroltest.NewAuthority(t, "CA"), "127.0.0.1")
	address, _ := relay.Listen(t)
	return relay, address
}

// enroll enrols an agent.
func enroll(t *testing.T, dataDir string, token enrol.Token, edit func(*agent.EnrollOptions)) (*identity.Identity, error) {
	t.Helper()
	o := agent.EnrollOptions{Token: token.Text(), DataDir: dataDir}
	if edit != nil {
		edit(&o)
	}
	return agent.Enroll(t.Context(), o)
}

func mustEnroll(t *testing.T, dataDir string, token enrol.Token) *identity.Identity {
	t.Helper()
	id, err := enroll(t, dataDir, token, nil)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestEnrollOverWhatIsThere: a good identity is replaced only if that is asked for, one that has ended is, and what belongs to another authority moves only if that is
// asked for.
func TestEnrollOverWhatIsThere(t *testing.T) {
	force := func(o *agent.EnrollOptions) { o.Force = true }
	t.Run("a good one", func(t *testing.T) {
		relay, address := newRelay(t)
		dir := t.TempDir()
		mustEnroll(t, dir, relay.Token("site-a", address))
		if _, err := enroll(t, dir, relay.Token("site-a", address), nil); err == nil || !strings.Contains(err.Error(), `agent "site-a" of that authority already`) || !strings.Contains(err.Error(), "--force") {
			t.Errorf("Enroll() = %v", err)
		}
		if asked := relay.Asked(); len(asked) != 1 {
			t.Errorf("the relay was asked %d times", len(asked))
		}
		if _, err := enroll(t, dir, relay.Token("site-a", address), force); err != nil || len(relay.Issued()) != 2 {
			t.Errorf("with --force: %v", err)
		}
	})
	t.Run("one that has ended", func(t *testing.T) {
		relay, address := newRelay(t)
		dir := t.TempDir()
		relay.Life = 1100 * time.Millisecond
		id := mustEnroll(t, dir, relay.Token("site-a", address))
		relay.Change(func() { relay.Life = time.Hour })
		time.Sleep(time.Until(id.Certificate.NotAfter.Add(time.Millisecond)))
		if id := mustEnroll(t, dir, relay.Token("site-a", address)); id.Ended(time.Now()) {
			t.Error("the identity is the earlier one")
		}
	})
	t.Run("a relay that has begun anew", func(t *testing.T) {
		old, address := newRelay(t)
		dir := t.TempDir()
		mustEnroll(t, dir, old.Token("site-a", address))
		anew := enroltest.NewRelay(enroltest.NewAuthority(t, "new CA"), "127.0.0.1")
		old.Change(func() { old.Authority, old.Pair = anew.Authority, anew.Pair })
		if _, err := enroll(t, dir, old.Token("site-a", address), nil); err == nil || !strings.Contains(err.Error(), "has the relay begun a new authority? --force") {
			t.Errorf("Enroll() = %v", err)
		}
		if id, err := enroll(t, dir, old.Token("site-a", address), force); err != nil || id.Authority != anew.Authority.Pin() {
			t.Errorf("with --force: %v", err)
		}
		if found, err := identity.In(dir).Load(); err != nil || len(found) != 1 {
			t.Errorf("%d identities, %v", len(found), err)
		}
	})
	t.Run("a second relay's authority", func(t *testing.T) {
		one, address := newRelay(t)
		two, other := newRelay(t)
		dir := t.TempDir()
		mustEnroll(t, dir, one.Token("site-a", address))
		if _, err := enroll(t, dir, two.Token("site-b", other), nil); err == nil || !strings.Contains(err.Error(), "not for this name") {
			t.Errorf("under another name: %v", err)
		}
		mustEnroll(t, dir, two.Token("site-a", other))
	})
}

// TestEnrollWaits: while no relay can be reached, and no longer than it shall.
func TestEnrollWaits(t *testing.T) {
	relay, address := newRelay(t)
	relay.Refuses = &enrol.Refusal{Reason: enrol.ReasonLater, Message: "too much to do"}
	var waits []time.Duration
	_, err := enroll(t, t.TempDir(), relay.Token("site-a", address), func(o *agent.EnrollOptions) {
		o.Patience = 5 * time.Second
		o.Waits = func(err error, wait time.Duration) {
			waits = append(waits, wait)
			if !strings.Contains(err.Error(), "too much to do") {
				t.Error(err)
			}
			relay.Change(func() { relay.Refuses = nil })
		}
	})
	if err != nil || len(waits) != 1 {
		t.Errorf("Enroll() = %v, after %v", err, waits)
	}
	relay.Change(func() { relay.Refuses = &enrol.Refusal{Reason: enrol.ReasonLater, Message: "too much to do"} })
	if _, err := enroll(t, t.TempDir(), relay.Token("site-a", address), nil); err == nil || !strings.Contains(err.Error(), "too much to do") {
		t.Errorf("without patience: %v", err)
	}
}

// options are those of an agent with nothing but a data dir.
func options(dataDir string) (agent.Options, *logLines) {
	log, systemd, none := &logLines{}, false, ""
	opts := agent.DefaultOptions()
	opts.DataDir, opts.DataDirAsked = dataDir, true
	opts.Web, opts.WebOptional = &web.FlagConfig{WebListenAddresses: &[]string{"127.0.0.1:0"}, WebSystemdSocket: &systemd, WebConfigFile: &none}, nil
	opts.Logger = slog.New(slog.NewTextHandler(log, nil))
	return opts, log
}

// logLines keeps what is logged.
type logLines struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (l *logLines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// start runs an agent until the function that it returns is called, which returns how it ended.
func start(t *testing.T, opts agent.Options) (a *agent.Agent, stop func() error) {
	t.Helper()
	a, err := agent.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { stop() })
	return a, stop
}

func get(t *testing.T, a *agent.Agent, path string) (int, string) {
	t.Helper()
	return relaytest.Get(t, "http://"+a.Addr().String()+path)
}

// TestFirstStartEnrols: an agent with a token enrols before it begins, as long as that takes, answers meanwhile that it has not yet, and needs the token no more
// afterwards.
func TestFirstStartEnrols(t *testing.T) {
	relay, address := newRelay(t)
	relay.Refuses = &enrol.Refusal{Reason: enrol.ReasonLater, Message: "too much to do"}
	token, dir := relay.Token("site-a", address), filepath.Join(t.TempDir(), "data")
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token.Text()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	opts, log := options(dir)
	opts.EnrollTokenFile = file
	a, stop := start(t, opts)
	relaytest.Eventually(t, "it says why it waits", func() bool {
		status, body := get(t, a, "/-/ready")
		return status == http.StatusServiceUnavailable && strings.Contains(body, "too much to do")
	})
	if status, _ := get(t, a, "/-/healthy"); status != http.StatusOK {
		t.Errorf("/-/healthy = %d", status)
	}
	if err := a.Reload(); err == nil || !strings.Contains(err.Error(), "not enrolled yet") {
		t.Errorf("Reload() = %v", err)
	}
	relay.Change(func() { relay.Refuses = nil })
	relaytest.Eventually(t, "it is ready", func() bool { status, _ := get(t, a, "/-/ready"); return status == http.StatusOK })
	if _, body := get(t, a, "/api/v1/status"); !strings.Contains(body, `"agent":"site-a"`) || !strings.Contains(body, relay.Authority.Pin().String()) || !strings.Contains(body, address) {
		t.Errorf("the status: %s", body)
	}
	if _, body := get(t, a, "/metrics"); !strings.Contains(body, "relay_agent_identity_not_after_seconds{authority=") || !strings.Contains(body, "\nrelay_agent_certificate_not_after_seconds ") {
		t.Errorf("the metrics have no certificates")
	}
	if err := errors.Join(stop(), os.Remove(file)); err != nil {
		t.Fatal(err)
	}
	if text := log.String(); strings.Contains(text, token.Text()) || !strings.Contains(text, "agent enrolled") {
		t.Errorf("the log:\n%s", text)
	}
	a, _ = start(t, opts) // the file is gone
	relaytest.Eventually(t, "it is ready again", func() bool { status, _ := get(t, a, "/-/ready"); return status == http.StatusOK })
	if asked := relay.Asked(); len(relay.Issued()) != 1 {
		t.Errorf("%d certificates, asked for %q", len(relay.Issued()), asked)
	}
}

// TestFirstStartThatIsRefused ends with the reason, and one that is stopped meanwhile ends well.
func TestFirstStartThatIsRefused(t *testing.T) {
	relay, address := newRelay(t)
	relay.Refuses = &enrol.Refusal{Reason: enrol.ReasonToken, Message: "the token is used"}
	token := relay.Token("site-a", address)
	opts, _ := options(t.TempDir())
	opts.EnrollToken = token.Text()
	a, err := agent.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "the token is used") || strings.Contains(err.Error(), token.Text()) {
		t.Errorf("Run() = %v", err)
	}
	relay.Change(func() { relay.Refuses = &enrol.Refusal{Reason: enrol.ReasonLater, Message: "not now"} })
	waiting, stop := start(t, opts)
	relaytest.Eventually(t, "it waits", func() bool { _, body := get(t, waiting, "/-/ready"); return strings.Contains(body, "not now") })
	if err := stop(); err != nil {
		t.Errorf("an agent that is stopped while it enrols: %v", err)
	}
}

// TestWhatAnAgentDials: without flags the relays of its identities; with addresses those, by the identity that they belong to, or the only one.
func TestWhatAnAgentDials(t *testing.T) {
	one, first := newRelay(t)
	two, second := newRelay(t)
	alone, both := t.TempDir(), t.TempDir()
	mustEnroll(t, alone, one.Token("site-a", first))
	mustEnroll(t, both, one.Token("site-a", first))
	mustEnroll(t, both, two.Token("site-a", second, "relay.test:9443"))
	for name, tt := range map[string]struct {
		dir  string
		asks []string
		want []string
		err  string
	}{
		"its own":              {dir: alone, want: []string{first}},
		"of both":              {dir: both, want: []string{first, second, "relay.test:9443"}},
		"another address":      {dir: alone, asks: []string{"relay.test:1"}, want: []string{"relay.test:1"}},
		"one of both":          {dir: both, asks: []string{second}, want: []string{second}},
		"of nobody":            {dir: both, asks: []string{"relay.test:1"}, err: "belongs to none of the agent's 2 identities"},
		"no identity":          {dir: t.TempDir(), err: "relay-server agents token NAME"},
		"no identity, a relay": {dir: t.TempDir(), asks: []string{first}, err: "relay-agent enroll TOKEN"},
		"memory only":          {err: "--data.dir is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			opts, _ := options(tt.dir)
			opts.RelayAddresses = tt.asks
			if tt.err != "" {
				if _, err := agent.New(opts); err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("New() = %v, want %q", err, tt.err)
				}
				return
			}
			a, _ := start(t, opts)
			relaytest.Eventually(t, "it is ready", func() bool { status, _ := get(t, a, "/-/ready"); return status == http.StatusOK })
			_, body := get(t, a, "/-/ready")
			var dials []string
			for line := range strings.Lines(body) {
				if rest, ok := strings.CutPrefix(line, "relay "); ok {
					address, _, _ := strings.Cut(rest, ": ")
					dials = append(dials, address)
				}
			}
			slices.Sort(dials)
			slices.Sort(tt.want)
			if !slices.Equal(dials, tt.want) {
				t.Errorf("it dials %q, want %q", dials, tt.want)
			}
		})
	}
}

// TestFlagsWin: with the files of flags identities are not looked at.
func TestFlagsWin(t *testing.T) {
	relay, address := newRelay(t)
	dir := t.TempDir()
	id := mustEnroll(t, dir, relay.Token("site-a", address))
	opts, _ := options(dir)
	opts.TLS, opts.EnrollToken = mtls.Files{CAFile: id.Files().CAFile, CertFile: "none", KeyFile: "none"}, "no token"
	opts.RelayAddresses = []string{address}
	if _, err := agent.New(opts); err == nil || !strings.Contains(err.Error(), "reading certificate file") {
		t.Errorf("New() = %v", err)
	}
	opts.TLS.KeyFile = ""
	if _, err := agent.New(opts); err == nil || !strings.Contains(err.Error(), "--tls.key-file is missing") {
		t.Errorf("New() = %v", err)
	}
}

// TestTokensAtTheStart: a token that is no token is an error while it is needed, and a warning when the agent has an identity; one for a relay that is away keeps no
// agent from its others.
func TestTokensAtTheStart(t *testing.T) {
	relay, address := newRelay(t)
	dir := t.TempDir()
	opts, _ := options(dir)
	opts.EnrollToken = "prj1_cut"
	if _, err := agent.New(opts); err == nil || !strings.Contains(err.Error(), "$RELAY_ENROLL_TOKEN: the join token is not whole") {
		t.Errorf("New() = %v", err)
	}
	opts.EnrollTokenFile = filepath.Join(dir, "none")
	if _, err := agent.New(opts); err == nil || !strings.Contains(err.Error(), "--enroll.token-file") {
		t.Errorf("New() = %v", err)
	}
	mustEnroll(t, dir, relay.Token("site-a", address))
	opts, log := options(dir)
	opts.EnrollToken = "prj1_cut"
	a, stop := start(t, opts)
	relaytest.Eventually(t, "it is ready", func() bool { status, _ := get(t, a, "/-/ready"); return status == http.StatusOK })
	if err := stop(); err != nil || !strings.Contains(log.String(), "the join token is not looked at") {
		t.Errorf("it ended with %v, and logs\n%s", err, log)
	}
	away := enrol.NewToken([]string{"127.0.0.1:1"}, enroltest.NewAuthority(t, "away").Pin())
	opts, log = options(dir)
	opts.EnrollToken = away.Text()
	a, _ = start(t, opts)
	relaytest.Eventually(t, "it is ready", func() bool { status, _ := get(t, a, "/-/ready"); return status == http.StatusOK })
	if !strings.Contains(log.String(), "begins without the relays of the join token") {
		t.Errorf("the log:\n%s", log)
	}
}

// TestIdentityThatHasEnded is no error at the start, as the files of flags are.
func TestIdentityThatHasEnded(t *testing.T) {
	relay, address := newRelay(t)
	relay.Life = 1100 * time.Millisecond
	dir := t.TempDir()
	id := mustEnroll(t, dir, relay.Token("site-a", address))
	relay.Change(func() { relay.Life = time.Hour })
	time.Sleep(time.Until(id.Certificate.NotAfter.Add(time.Millisecond)))
	opts, _ := options(dir)
	opts.TLS, opts.RelayAddresses = id.Files(), id.Relays
	if _, err := agent.New(opts); err == nil || !strings.Contains(err.Error(), "expired at") {
		t.Errorf("New() with the same files by flags = %v", err)
	}
	opts, _ = options(dir)
	start(t, opts)
	relaytest.Eventually(t, "it is renewed", func() bool { return len(relay.Issued()) == 2 })
}
