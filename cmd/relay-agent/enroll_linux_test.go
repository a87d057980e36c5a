package main

import (
	"strings"
	"testing"

	"pushrelay/internal/enroltest"
	"pushrelay/internal/waltest"
)

// TestEnrollOnAFullDisk: before the relay is asked, and after it has issued. The same again helps, and takes no second token.
func TestEnrollOnAFullDisk(t *testing.T) {
	if !waltest.Alone(t) {
		return
	}
	for name, room := range map[string]int64{"for nothing": 1, "for the key": 500} {
		t.Run(name, func(t *testing.T) {
			relay := enroltest.NewRelay(enroltest.NewAuthority(t, "CA"), "127.0.0.1")
			address, _ := relay.Listen(t)
			made := relay.Token("site-a", address)
			dir := t.TempDir()
			lift := waltest.LimitFiles(t, room)
			code, _, stderr := enrollWith(t, "", "--data.dir="+dir, made.Text())
			lift()
			if code != exitLater || !strings.Contains(stderr, "file too large: the token still lets this agent in: free space") {
				t.Errorf("on a full disk: %d, %s", code, stderr)
			}
			if asked := len(relay.Issued()); asked != map[string]int{"for the key": 1}[name] {
				t.Errorf("the relay has issued %d certificates", asked)
			}
			if code, _, stderr := enrollWith(t, "", "--data.dir="+dir, made.Text()); code != exitOK || len(relay.Issued()) != 1 {
				t.Errorf("again: %d, %s, after %d certificates", code, stderr, len(relay.Issued()))
			}
		})
	}
}
