package control_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/control"
	"pushrelay/internal/enrol"
	"pushrelay/internal/relayapi"
)

// place is where the relay of a fixture is; it has that name alone.
func place() (control.Place, error) {
	return control.Place{CA: enrol.PinOf([]byte("a CA")), Addresses: []string{"relay.example.org:9443"}, Reaches: func(address string) error {
		if address != "relay.example.org:9443" {
			return errors.New("not that name")
		}
		return nil
	}}, nil
}

func made(t *testing.T, answer string) relayapi.MadeToken {
	t.Helper()
	var out relayapi.Answer[relayapi.MadeToken]
	if err := json.Unmarshal([]byte(answer), &out); err != nil || out.Data == nil {
		t.Fatalf("%v: %s", err, answer)
	}
	return *out.Data
}

func TestTokens(t *testing.T) {
	f := newFixture(t, nil)
	for _, tt := range []struct {
		name, body string
		status     int
		want       string
	}{
		{"no name", `{"uses":1,"ttl_seconds":3600}`, 400, "agent name is empty"},
		{"no beginning of names", `{"name":"-","prefix":true,"uses":1,"ttl_seconds":3600}`, 400, "as the beginning of names"},
		{"no use", `{"name":"site-a","ttl_seconds":3600}`, 400, "want 1 to 1000000"},
		{"for a moment", `{"name":"site-a","uses":1,"ttl_seconds":1}`, 400, "want 1m0s to 366 days"},
		{"for ever", `{"name":"site-a","uses":1,"ttl_seconds":9223372036854775807}`, 400, "want 1m0s to 366 days"},
		{"replacing one name", `{"name":"site-a","replace":true,"uses":1,"ttl_seconds":3600}`, 400, "--replace is for one with a prefix"},
		{"no address", `{"name":"site-a","uses":1,"ttl_seconds":3600,"addresses":["relay"]}`, 400, "not host:port"},
		{"another relay", `{"name":"site-a","uses":1,"ttl_seconds":3600,"addresses":["relay.example.org:9443","two.example.org:9443"]}`, 200, "two.example.org:9443: not that name"},
	} {
		if status, answer := f.ask(t, "POST", "/tokens", tt.body); status != tt.status || !strings.Contains(answer, tt.want) {
			t.Errorf("%s: %d %s, want %d and %q", tt.name, status, answer, tt.status, tt.want)
		}
	}
	_, answer := f.ask(t, "POST", "/tokens", `{"name":"site-a","uses":1,"ttl_seconds":3600}`)
	token, err := enrol.ParseToken(made(t, answer).Text)
	if err != nil || token.ID.String() != made(t, answer).ID || token.Addresses[0] != "relay.example.org:9443" || token.CA != enrol.PinOf([]byte("a CA")) {
		t.Errorf("the token is %v, %v", token, err)
	}
	if _, listed := f.ask(t, "GET", "/tokens", ""); strings.Count(listed, `"id"`) != 2 || strings.Contains(listed, "text") {
		t.Errorf("listed are %s", listed)
	}
	if status, _ := f.ask(t, "DELETE", "/tokens/"+token.ID.String(), ""); status != 200 {
		t.Errorf("voiding it: %d", status)
	}
	if status, again := f.ask(t, "DELETE", "/tokens/"+token.ID.String(), ""); status != 404 || !strings.Contains(again, "agents tokens lists them") {
		t.Errorf("voiding it again: %d %s", status, again)
	}
}

// TestRevocationsVoidTokens: those for the name at once, and those that reach it if they are named.
func TestRevocationsVoidTokens(t *testing.T) {
	f := newFixture(t, nil)
	ids := map[string]string{}
	for name, body := range map[string]string{"site-a": `{"name":"site-a"`, "site-": `{"name":"site-","prefix":true`, "other-": `{"name":"other-","prefix":true`} {
		_, answer := f.ask(t, "POST", "/tokens", body+`,"uses":5,"ttl_seconds":3600}`)
		ids[name] = made(t, answer).ID
	}
	_, answer := f.ask(t, "POST", "/agents/site-a/revoke", "")
	var done relayapi.Answer[relayapi.Revoked]
	if err := json.Unmarshal([]byte(answer), &done); err != nil || len(done.Data.TokensVoided) != 1 || done.Data.TokensVoided[0].ID != ids["site-a"] || len(done.Data.TokensLeft) != 1 || done.Data.TokensLeft[0].ID != ids["site-"] {
		t.Errorf("%v: %s", err, answer)
	}
	_, answer = f.ask(t, "POST", "/agents/site-a/revoke", `{"with_tokens":true}`)
	if err := json.Unmarshal([]byte(answer), &done); err != nil || len(done.Data.TokensVoided) != 1 || done.Data.TokensVoided[0].ID != ids["site-"] {
		t.Errorf("%v: %s", err, answer)
	}
	if _, left := f.ask(t, "GET", "/tokens", ""); !strings.Contains(left, ids["other-"]) || strings.Count(left, `"id"`) != 1 {
		t.Errorf("left are %s", left)
	}
}

// TestNoTokens: a relay that can let nobody in says why.
func TestNoTokens(t *testing.T) {
	f := newFixture(t, nil)
	f.cfg.Place = func() (control.Place, error) { return control.Place{}, errors.New("no authority of its own") }
	f.cfg.Registerer = prometheus.NewRegistry()
	f.handler = control.New(f.cfg).Handler()
	if status, answer := f.ask(t, "POST", "/tokens", `{"name":"site-a","uses":1,"ttl_seconds":3600}`); status != 409 || !strings.Contains(answer, "no authority of its own") {
		t.Errorf("%d %s", status, answer)
	}
	if _, answer := f.ask(t, "GET", "/tokens", ""); !strings.Contains(answer, `"data":[]`) {
		t.Errorf("listed are %s", answer)
	}
}
