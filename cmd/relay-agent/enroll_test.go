package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"pushrelay/internal/agentapi"
	"pushrelay/internal/enrol"
	"pushrelay/internal/enroltest"
)

// enrollWith runs the command with a line of arguments and standard input.
func enrollWith(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	app := kingpin.New("relay-agent", "")
	c := newEnrollCommand(app)
	if _, err := app.Parse(append([]string{"enroll", "--wait=0s"}, args...)); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	code = c.run(strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

// TestEnroll: a token comes as an argument, from standard input, a file or the environment; what is said names the agent, its relays and the next step, and
// the exit code tells what the same again would do.
func TestEnroll(t *testing.T) {
	relay := enroltest.NewRelay(enroltest.NewAuthority(t, "CA"), "127.0.0.1")
	address, stop := relay.Listen(t)
	token := func() string { made := relay.Token("site-a", address); return made.Text() }
	file := filepath.Join(t.TempDir(), "token")
	dir := filepath.Join(t.TempDir(), "data dir")
	code, stdout, stderr := enrollWith(t, "", "--data.dir="+dir, token())
	for _, want := range []string{`this is agent "site-a" now`, "relays: " + address, `next: relay-agent --data.dir="` + dir + `"`} {
		if !strings.Contains(stdout, want) {
			t.Errorf("it says %q, want %q in it", stdout, want)
		}
	}
	if code != exitOK || stderr != "" {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	if code, _, stderr := enrollWith(t, "", "--data.dir="+dir, token()); code != exitFailed || !strings.Contains(stderr, "--force") {
		t.Errorf("over a good identity: %d, %s", code, stderr)
	}
	if code, _, stderr := enrollWith(t, token()+"\n", "--data.dir="+t.TempDir(), "-"); code != exitOK {
		t.Errorf("from standard input: %d, %s", code, stderr)
	}
	if err := os.WriteFile(file, []byte(token()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := enrollWith(t, "", "--data.dir="+t.TempDir(), "--enroll.token-file="+file); code != exitOK {
		t.Errorf("from a file: %d, %s", code, stderr)
	}
	t.Setenv(tokenVariable, token())
	if code, _, stderr := enrollWith(t, "", "--data.dir="+t.TempDir()); code != exitOK {
		t.Errorf("from the environment: %d, %s", code, stderr)
	}
	if code, _, stderr := enrollWith(t, "", "--data.dir="+t.TempDir()); code != exitFailed || !strings.Contains(stderr, "used") {
		t.Errorf("with a used token: %d, %s", code, stderr)
	}
	stop()
	if code, _, stderr := enrollWith(t, "", "--data.dir="+t.TempDir(), token()); code != exitLater || !strings.Contains(stderr, "connection refused") {
		t.Errorf("without a relay: %d, %s", code, stderr)
	}
}

// TestEnrollWithoutToken: what is no token is said before anything is done.
func TestEnrollWithoutToken(t *testing.T) {
	made := enrol.NewToken([]string{"127.0.0.1:1"}, enrol.PinOf(nil))
	text := made.Text()
	for name, tt := range map[string]struct {
		args []string
		code int
		want string
	}{
		"nothing":     {nil, exitUsage, "$" + tokenVariable},
		"two":         {[]string{"--enroll.token-file=x", text}, exitUsage, "one of the two"},
		"two words":   {[]string{text, "x"}, exitUsage, "one word"},
		"empty":       {[]string{"-"}, exitFailed, "empty"},
		"no file":     {[]string{"--enroll.token-file=/none"}, exitUsage, "--enroll.token-file"},
		"cut":         {[]string{text[:len(text)-3]}, exitFailed, "not whole"},
		"no data dir": {[]string{"--data.dir=", text}, exitFailed, "--data.dir is empty"},
		"bad name":    {[]string{"--name=Site_A", text}, exitFailed, "--name: agent name"},
		"bad proxy":   {[]string{"--relay.proxy-url=ftp://x", "--data.dir=" + t.TempDir(), text}, exitFailed, "--relay.proxy-url"},
	} {
		code, stdout, stderr := enrollWith(t, "", tt.args...)
		if code != tt.code || stdout != "" || !strings.Contains(stderr, tt.want) || strings.Contains(stderr, text[8:20]) {
			t.Errorf("%s: %d, %q, %q, want %d and %q", name, code, stdout, stderr, tt.code, tt.want)
		}
	}
}

// TestEmptyFlags: an empty variable of a script is a mistake, and not a flag that was left away.
func TestEmptyFlags(t *testing.T) {
	for _, flag := range []string{"--name=", "--enroll.token-file="} {
		var out bytes.Buffer
		if code := run([]string{"enroll", flag, "x"}, &out, &out); code != exitUsage || !strings.Contains(out.String(), strings.TrimSuffix(flag, "=")+" is empty: give it a value") {
			t.Errorf("%s: %d, %s", flag, code, out.String())
		}
	}
}

// TestIdentityState: until when a certificate is good, when it is renewed, and what is in the way.
func TestIdentityState(t *testing.T) {
	now := time.Date(2027, 1, 10, 0, 0, 0, 0, time.UTC)
	tried := now.Add(-time.Minute)
	for want, id := range map[string]agentapi.Identity{
		"good until 2027-01-20T00:00:00Z, renewed from 2027-01-12T00:00:00Z on":           {CertificateNotAfter: now.AddDate(0, 0, 10), RenewalDue: now.AddDate(0, 0, 2)},
		"good until 2027-01-20T00:00:00Z, NOT RENEWED, tried 1m0s ago: no relay":          {CertificateNotAfter: now.AddDate(0, 0, 10), LastAttempt: &tried, LastError: "no relay"},
		"ENDED at 2027-01-09T00:00:00Z":                                                   {CertificateNotAfter: now.AddDate(0, 0, -1)},
		"ENDED at 2027-01-09T00:00:00Z, REVOKED, not renewed, tried 1m0s ago: thrown out": {CertificateNotAfter: now.AddDate(0, 0, -1), LastAttempt: &tried, LastError: "thrown out", Revoked: true},
	} {
		if got := identityState(id, now); got != want {
			t.Errorf("it is %q, want %q", got, want)
		}
	}
}
