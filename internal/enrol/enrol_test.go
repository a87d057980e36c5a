package enrol_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/enrol"
	"pushrelay/internal/mtls"
)

func TestTokenText(t *testing.T) {
	token := enrol.NewToken([]string{"relay.example.org:9443", "[2001:db8::1]:9443"}, enrol.PinOf([]byte("a CA")))
	text := token.Text()
	if strings.ContainsAny(text, " \n\t'\"$`\\") || !strings.HasPrefix(text, "prj1_") {
		t.Errorf("the text %q cannot be pasted into a shell", text)
	}
	got, err := enrol.ParseToken("  " + text + "\r\n")
	if err != nil || !cmp.Equal(got, token) {
		t.Errorf("ParseToken() = %v, %v, want the same token", got, err)
	}
	if printed := fmt.Sprintf("%v %+v %s %x %#v", token, token, token.Secret, token.Secret, token); strings.Contains(printed, fmt.Sprintf("%x", token.Secret[:])) {
		t.Errorf("the secret is printed: %s", printed)
	}
}

// TestBrokenTokens: whatever is cut or changed is told, and no part of it is repeated.
func TestBrokenTokens(t *testing.T) {
	token := enrol.NewToken([]string{"relay.example.org:9443"}, enrol.PinOf([]byte("a CA")))
	text := token.Text()
	for cut := len("prj1_") + 1; cut < len(text); cut++ {
		if _, err := enrol.ParseToken(text[:cut]); err == nil || !strings.Contains(err.Error(), "not whole") || strings.Contains(err.Error(), text[10:20]) {
			t.Fatalf("cut after %d: %v", cut, err)
		}
		changed := []byte(text)
		changed[cut] ^= 1
		if _, err := enrol.ParseToken(string(changed)); err == nil {
			t.Fatalf("changed at %d: it is taken", cut)
		}
	}
	for text, want := range map[string]string{
		"": "empty", "site-a": "begins with", "prj1_": "not whole", "prj1_" + strings.Repeat("A", 5000): "longer",
	} {
		if _, err := enrol.ParseToken(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseToken(%.20q): %v, want %q", text, err, want)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	token := enrol.NewToken([]string{"relay.example.org:9443"}, enrol.PinOf([]byte("a CA")))
	f.Add(token.Text())
	f.Add("prj1_AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := enrol.ParseToken(text)
		if err != nil {
			return
		}
		if again, err := enrol.ParseToken(token.Text()); err != nil || !cmp.Equal(again, token) {
			t.Errorf("read again: %v, %v, want %v", again, err, token)
		}
	})
}

func TestRefusals(t *testing.T) {
	for _, reason := range enrol.Reasons() {
		sent := &enrol.Refusal{Reason: reason, Message: "no"}
		if got, ok := enrol.RefusalFrom(sent.Status()); !ok || *got != *sent {
			t.Errorf("RefusalFrom() = %v, %v, want %v", got, ok, sent)
		}
	}
	if got, ok := enrol.RefusalFrom(errors.New("connection refused")); ok {
		t.Errorf("RefusalFrom() of another error = %v", got)
	}
}

func TestRenewFrom(t *testing.T) {
	issued := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	for life, want := range map[time.Duration]time.Duration{30 * 24 * time.Hour: 15 * 24 * time.Hour, time.Hour: 30 * time.Minute} {
		if got := enrol.RenewFrom(issued.Add(-mtls.Backdate), issued.Add(life)); got.Sub(issued) != want {
			t.Errorf("RenewFrom() of %v = %v after it was issued, want %v", life, got.Sub(issued), want)
		}
	}
}
