package httpserver_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// hashed is "right" at a low cost: a race detector makes it much higher.
const hashed = "$2a$06$78.Cxy83mbcbjtyyt2LdHOsfREsc9FE1PFHlKxwIVhZH7fK8jGDDC"

// withPassword serves "served" to whoever has the password. It returns the address and the web configuration file.
func withPassword(t *testing.T) (address, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "web.yml")
	setPassword(t, file, hashed)
	f := flags("127.0.0.1:0")
	*f.WebConfigFile = file
	s, _ := serveFlags(t, f, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "served") })
	return s.Addr().String(), file
}

func setPassword(t *testing.T, file, hash string) {
	t.Helper()
	if err := os.WriteFile(file, fmt.Appendf(nil, "basic_auth_users: {prometheus: %q, second: %q}\n", hash, hash), 0o600); err != nil {
		t.Fatal(err)
	}
}

// tryPassword asks from an address of loopback, on a connection of its own, and returns the status.
func tryPassword(t *testing.T, from, address, password string) int {
	t.Helper()
	return tryUser(t, from, address, "prometheus", password)
}

func tryUser(t *testing.T, from, address, user, password string) int {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	transport := &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth(user, password)
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// TestPasswords: who has the password gets in, also after it has changed, and nobody else.
func TestPasswords(t *testing.T) {
	address, file := withPassword(t)
	const other = "$2a$06$UT7eFUiG4se2ne/g4EtskuLWHjI12AQyOu5OwKPCw5ooSsSPM7cmG"
	for i, tt := range []struct {
		hash, password string
		want           int
	}{
		{hashed, "right", 200},
		{hashed, "right", 200},
		{hashed, "wrong", 401},
		{hashed, "wrong", 401},
		{hashed, "right", 200},
		{other, "right", 401},
		{other, "right", 401},
		{hashed, "right", 200},
		{hashed, "wrong", 401},
	} {
		setPassword(t, file, tt.hash)
		if got := tryPassword(t, "127.0.0.1", address, tt.password); got != tt.want {
			t.Errorf("step %d: %q is answered %d, want %d", i, tt.password, got, tt.want)
		}
	}
}

// TestWrongPasswordsDoNotSlowRightOnes: many who try passwords keep nobody waiting who has had the right one before. Those who are too many
// at once are told so.
func TestWrongPasswordsDoNotSlowRightOnes(t *testing.T) {
	address, _ := withPassword(t)
	if got := tryPassword(t, "127.0.0.1", address, "right"); got != 200 {
		t.Fatalf("the password is answered %d", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var trying sync.WaitGroup
	var mu sync.Mutex
	answers := map[int]int{}
	for i := range 40 {
		trying.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				got := tryPassword(t, "127.0.0.9", address, fmt.Sprint("wrong", i, n))
				mu.Lock()
				answers[got]++
				mu.Unlock()
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	wrong := func() int {
		mu.Lock()
		defer mu.Unlock()
		return answers[401]
	}
	var took []time.Duration
	for range 20 {
		begun := time.Now()
		if got := tryPassword(t, "127.0.0.1", address, "right"); got != 200 {
			t.Errorf("the right password is answered %d", got)
		}
		took = append(took, time.Since(begun))
		time.Sleep(50 * time.Millisecond)
	}
	before := wrong()
	if got := tryUser(t, "127.0.0.1", address, "second", "right"); got != 200 {
		t.Errorf("another one's right password is answered %d", got)
	}
	if first := wrong() - before; first > 12 {
		t.Errorf("a password that came for the first time waited for %d wrong ones", first)
	}
	cancel()
	trying.Wait()
	slices.Sort(took)
	t.Logf("right ones took %v in the middle and %v at most; wrong ones were answered %v", took[len(took)/2], took[len(took)-1], answers)
	if took[len(took)/2] > 200*time.Millisecond || took[len(took)-1] > 2*time.Second {
		t.Errorf("right ones took %v in the middle and %v at most", took[len(took)/2], took[len(took)-1])
	}
	if answers[401] == 0 || answers[429] == 0 || answers[200] > 0 {
		t.Errorf("wrong ones were answered %v", answers)
	}
}
