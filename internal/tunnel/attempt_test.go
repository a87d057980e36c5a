package tunnel_test

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pushrelay/internal/tunnel"
)

// recordBegin is the head of a TLS record of 16 KiB: whoever reads it waits for the rest.
const recordBegin = "\x16\x03\x03\x40\x00"

// TestAttemptsEnd: an attempt ends when nothing is heard, and also when something is and no welcome comes of it.
func TestAttemptsEnd(t *testing.T) {
	for _, tt := range []struct {
		name        string
		serve       func(c net.Conn)
		least, most time.Duration // between two attempts
		want        string
	}{
		{
			name: "silent", serve: func(c net.Conn) { io.Copy(io.Discard, c) },
			least: tunnel.AttemptSilence, most: tunnel.BackoffCap, want: "no answer from the relay",
		},
		{
			name: "trickling", serve: func(c net.Conn) {
				go io.Copy(io.Discard, c)
				for _, err := io.WriteString(c, recordBegin); err == nil; _, err = c.Write([]byte{0}) {
					time.Sleep(5 * time.Second)
				}
			},
			least: tunnel.AttemptTimeout, most: tunnel.AttemptTimeout + tunnel.AttemptSilence + tunnel.BackoffCap, want: "does not answer the hello",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(0)
				var serving sync.WaitGroup
				serving.Go(func() {
					for c, err := n.Accept(); err == nil; c, err = n.Accept() {
						serving.Go(func() {
							defer c.Close()
							tt.serve(c)
						})
					}
				})
				t.Cleanup(func() {
					n.Close()
					n.pumps.Wait()
					serving.Wait()
				})
				h := newHouseAt(t, pusherFunc(noPushes), newNetwork(0)) // nobody dials this one
				h.dial = n.Dial
				link, stop := h.start(h.authority, "site", scraperFunc(nil))
				time.Sleep(5 * time.Minute)
				if got := link.Status().LastError; !strings.Contains(got, tt.want) {
					t.Errorf("LastError = %q, want it to say %q", got, tt.want)
				}
				dials := n.dialled()
				for i := 1; i < len(dials); i++ {
					if between := dials[i].Sub(dials[i-1]); between < tt.least || between > tt.most {
						t.Errorf("%v between two attempts, want %v to %v", between, tt.least, tt.most)
					}
				}
				stop()
			})
		})
	}
}
