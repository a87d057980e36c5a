package relay

import (
	"net"
	"testing"
)

// TestAskWitness: a witness that does not run belongs to no majority; one that is there may, and one that cannot be reached as well.
func TestAskWitness(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if runs, may := askWitness(t.Context(), address); runs != 1 || may != 1 {
		t.Errorf("a witness that runs counts as %d, %d", runs, may)
	}
	l.Close()
	if runs, may := askWitness(t.Context(), address); runs != 0 || may != 0 {
		t.Errorf("a witness that is dead counts as %d, %d", runs, may)
	}
	if runs, may := askWitness(t.Context(), "nowhere.invalid:1"); runs != 0 || may != 1 {
		t.Errorf("a witness that cannot be found counts as %d, %d", runs, may)
	}
}
