package mtls_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pushrelay/internal/mtls"
)

const bom = "\uFEFF"

func text(parts ...any) []byte {
	var b bytes.Buffer
	for _, part := range parts {
		switch part := part.(type) {
		case []byte:
			b.Write(part)
		case string:
			b.WriteString(part)
		}
	}
	return b.Bytes()
}

func trimmed(pem []byte) []byte { return bytes.TrimRight(pem, "\n") }

// indented is a text as somebody copies it out of a YAML file.
func indented(pem []byte) []byte {
	return append([]byte("  "), bytes.ReplaceAll(trimmed(pem), []byte("\n"), []byte("\n  "))...)
}

// What of a CA file does not become a certificate is never lost in silence.
func TestCAFileIsReadToItsEnd(t *testing.T) {
	first, second := newAuthority(t, "first CA"), newAuthority(t, "second CA")
	a, b := first.pem(), second.pem()
	lines := bytes.Count(a, []byte("\n"))
	after := func(n int) string { return fmt.Sprintf("line %d: ", lines+n) }
	unparsed := certPEM([]byte("no certificate"))

	tests := []struct {
		name    string
		ca      []byte
		trusted string // f and s: which of the two CAs are taken
		warning string // of which there is one; empty for none
		err     string // instead of all that
	}{
		{name: "two", ca: text(a, b), trusted: "fs"},
		{name: "Windows' line ends", ca: bytes.ReplaceAll(text(a, b), []byte("\n"), []byte("\r\n")), trusted: "fs"},
		{name: "words between", ca: text("# first\n", a, "second: the one of May\n\n", b), trusted: "fs"},
		{name: "one commented out", ca: text("# ", bytes.ReplaceAll(trimmed(a), []byte("\n"), []byte("\n# ")), "\n", b), trusted: "s"},
		{name: "no line feed at the end", ca: text(a, trimmed(b)), trusted: "fs"},
		{name: "byte order mark", ca: text(bom, a, b), trusted: "fs"},
		{name: "byte order mark in the middle", ca: text(bom, a, bom, b), trusted: "fs"},

		{name: "joined without a line feed", ca: text(trimmed(a), b), err: `line ` + fmt.Sprint(lines) + `: a line feed is missing before or after "BEGIN CERTIFICATE"`},
		{name: "joined after a comment", ca: text(a, "the second", b), err: after(1) + "a line feed is missing"},
		{name: "end glued to the content", ca: bytes.Replace(text(a, b), []byte("\n-----END"), []byte("-----END"), 1), err: fmt.Sprintf("line %d: a line feed is missing", lines-1)},
		{name: "content glued to the begin", ca: bytes.Replace(text(a, b), []byte("CERTIFICATE-----\n"), []byte("CERTIFICATE-----"), 1), err: "line 1: a line feed is missing"},
		{name: "words glued to the end", ca: text(trimmed(a), "; first\n", b), err: "a line feed is missing"},
		{name: "all in one line", ca: bytes.ReplaceAll(text(a, b), []byte("\n"), []byte(" ")), err: "line 1: a line feed is missing"},
		{name: "line ends of old Macs", ca: bytes.ReplaceAll(text(a, b), []byte("\n"), []byte("\r")), err: "line 1: a line feed is missing"},
		{name: "UTF-16", ca: text("\xff\xfe-\x00-\x00"), err: "it is UTF-16"},
		{name: "nothing but one that cannot be parsed", ca: unparsed, err: "no certificate in it: line 1: parsing certificate 1"},
		{name: "nothing but half of one", ca: a[:len(a)/2], err: "no certificate in it: line 1: BEGIN CERTIFICATE without an END"},

		{name: "one that cannot be parsed", ca: text(a, unparsed, b), trusted: "fs", warning: after(1) + "parsing certificate 2"},
		{name: "one of another type", ca: text(a, bytes.ReplaceAll(b, []byte(" CERTIFICATE"), []byte(" TRUSTED CERTIFICATE"))), trusted: "f", warning: after(1) + `a block of type "TRUSTED CERTIFICATE" is not read`},
		{name: "no base64", ca: text(a, "-----BEGIN CERTIFICATE-----\n%%%%\n-----END CERTIFICATE-----\n", b), trusted: "fs", warning: after(1) + "what is between BEGIN CERTIFICATE and END CERTIFICATE"},
		{name: "cut off", ca: text(a, b[:len(b)/2]), trusted: "f", warning: after(1) + "BEGIN CERTIFICATE without an END"},
		{name: "cut off in the middle", ca: text(a, b[:len(b)/2], "\n", a), trusted: "f", warning: after(1) + "BEGIN CERTIFICATE without an END"},
		{name: "without its begin", ca: text(b[bytes.IndexByte(b, '\n')+1:], a), trusted: "f", warning: "END CERTIFICATE without a BEGIN"},
		{name: "another end", ca: text(a, bytes.Replace(b, []byte("END CERT"), []byte("END X CERT"), 1)), trusted: "f", warning: after(1) + "what is between BEGIN CERTIFICATE and END X CERTIFICATE"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := writeFiles(t, first.sign(t, agentTemplate("a")), tt.ca)
			m, err := mtls.Load(mtls.Agent, files)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), files.CAFile) {
					t.Fatalf("Load() error = %v, want one with %q and the file", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			warnings := slices.DeleteFunc(slices.Clone(m.Warnings()), func(w string) bool { return strings.Contains(w, "is not signed by") })
			switch {
			case tt.warning == "" && len(warnings) > 0:
				t.Errorf("Warnings() = %q, want none", warnings)
			case tt.warning != "" && (len(warnings) != 1 || !strings.Contains(warnings[0], tt.warning) || !strings.Contains(warnings[0], files.CAFile)):
				t.Errorf("Warnings() = %q, want one with %q and the file", warnings, tt.warning)
			}
			agent := mtls.AgentTLSConfig(newReloader(t, mtls.Agent, files), "relay.test")
			for letter, ca := range map[string]*authority{"f": first, "s": second} {
				relay := newReloader(t, mtls.Relay, writeFiles(t, ca.sign(t, relayTemplate(uris())), first.pem()))
				out := handshake(mtls.RelayTLSConfig(relay, nil), agent)
				if want := strings.Contains(tt.trusted, letter); (out.agentErr == nil) != want {
					t.Errorf("relay of %v: agent %v, want it trusted: %v", ca.cert.Subject, out.agentErr, want)
				}
			}
		})
	}
}

// A line that only looks like a marker names itself as well.
func TestMarkersThatAreNone(t *testing.T) {
	ca := newAuthority(t, "CA")
	other := newAuthority(t, "other").pem()
	for name, broken := range map[string][]byte{
		"indented":            indented(other),
		"too few dashes":      bytes.ReplaceAll(other, []byte("-----"), []byte("----")),
		"of a word processor": bytes.ReplaceAll(other, []byte("-----"), []byte("—————")),
	} {
		m, err := mtls.Load(mtls.Agent, writeFiles(t, ca.sign(t, agentTemplate("a")), text(ca.pem(), broken)))
		if err != nil {
			t.Errorf("%s: Load() error = %v", name, err)
			continue
		}
		if all := strings.Join(m.Warnings(), "\n"); len(m.Warnings()) != 2 || !strings.Contains(all, `"BEGIN CERTIFICATE" has to be`) || !strings.Contains(all, `"END CERTIFICATE" has to be`) {
			t.Errorf("%s: Warnings() = %q, want both lines", name, m.Warnings())
		}
	}
}

// The first certificate of a file is the own one: another cannot take its place.
func TestOwnCertificateThatCannotBeRead(t *testing.T) {
	ca := newAuthority(t, "CA")
	agent := ca.sign(t, agentTemplate("a"))
	broken := pair{cert: text(certPEM([]byte("x")), agent.cert), key: agent.key}
	if _, err := mtls.Load(mtls.Agent, writeFiles(t, broken, ca.pem())); err == nil || !strings.Contains(err.Error(), "line 1: parsing certificate 1") {
		t.Errorf("Load() error = %v, want one about the first certificate", err)
	}
	chained := pair{cert: text(agent.cert, certPEM([]byte("x"))), key: agent.key}
	m, err := mtls.Load(mtls.Agent, writeFiles(t, chained, ca.pem()))
	if err != nil || len(m.Warnings()) != 1 || !strings.Contains(m.Warnings()[0], "parsing certificate 2") {
		t.Errorf("Load() with a broken intermediate: %v, want a warning", err)
	}
}

// A key is read as certificates are, and what is in it is never told.
func TestKeyIsReadToItsEnd(t *testing.T) {
	ca := newAuthority(t, "CA")
	agent := ca.sign(t, agentTemplate("a"))
	for name, tt := range map[string]struct {
		key []byte
		err string
	}{
		"byte order mark":       {key: text(bom, agent.key)},
		"after the certificate": {key: text(agent.cert, agent.key)},
		"glued to it":           {key: text(trimmed(agent.cert), agent.key), err: `a line feed is missing before or after "BEGIN PRIVATE KEY"`},
		"in one line":           {key: bytes.ReplaceAll(agent.key, []byte("\n"), []byte(" ")), err: "line 1: a line feed is missing"},
		"cut off":               {key: agent.key[:len(agent.key)/2], err: "no private key in it: line 1: BEGIN PRIVATE KEY without an END"},
	} {
		_, err := mtls.Load(mtls.Agent, writeFiles(t, pair{cert: agent.cert, key: tt.key}, ca.pem()))
		if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s: Load() error = %v, want one with %q", name, err, tt.err)
		}
		if err != nil && strings.Contains(err.Error(), string(agent.key[40:60])) {
			t.Errorf("%s: the error holds a part of the key: %v", name, err)
		}
	}
}

// The agent's CA file verifies the relay; whether the agent's own certificate is good is for the relay to say.
func TestTwoAuthorities(t *testing.T) {
	ofAgents, ofRelays := newAuthority(t, "agents' CA"), newAuthority(t, "relays' CA")
	files := writeFiles(t, ofAgents.sign(t, agentTemplate("a")), ofRelays.pem())
	m, err := mtls.Load(mtls.Agent, files)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Warnings()) != 1 || !strings.Contains(m.Warnings()[0], `its issuer is "CN=agents' CA"`) {
		t.Errorf("Warnings() = %q, want one that names the issuer", m.Warnings())
	}
	relay := newReloader(t, mtls.Relay, writeFiles(t, ofRelays.sign(t, relayTemplate(uris())), ofAgents.pem()))
	out := handshake(mtls.RelayTLSConfig(relay, nil), mtls.AgentTLSConfig(newReloader(t, mtls.Agent, files), "relay.test"))
	if out.relayErr != nil || out.agentErr != nil {
		t.Errorf("handshake: relay %v, agent %v, want none", out.relayErr, out.agentErr)
	}
}

// Whoever runs the program reads of what is odd when the files are read, and of the key's mode once.
func TestOddFilesAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority(t, "CA")
		files := writeFiles(t, ca.sign(t, agentTemplate("a")), text(ca.pem(), certPEM([]byte("x"))))
		if err := os.Chmod(files.KeyFile, 0o640); err != nil {
			t.Fatal(err)
		}
		var log logBuffer
		r, err := mtls.NewReloader(mtls.Config{Role: mtls.Agent, Files: files, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		want := func(when string, parts, keys int) {
			t.Helper()
			told := log.take()
			if got := strings.Count(told, "parsing certificate 2"); got != parts {
				t.Errorf("%s: the certificate that cannot be parsed is told %d times, want %d:\n%s", when, got, parts, told)
			}
			if got := strings.Count(told, "key can be read by others"); got != keys {
				t.Errorf("%s: the key's mode is told %d times, want %d:\n%s", when, got, keys, told)
			}
		}
		want("at the start", 1, 1)
		replaceFile(t, files.CAFile, text(ca.pem(), certPEM([]byte("y"))))
		time.Sleep(2 * time.Second)
		r.Material()
		want("after a change", 1, 0)
		time.Sleep(2 * time.Second)
		r.Material()
		want("without one", 0, 0)
	})
}
