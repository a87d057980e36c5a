package replicated

import (
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestClock: the leader's time goes on from what any leader has told before, whatever its own clock says (C9).
func TestClock(t *testing.T) {
	wall := time.Unix(1000, 0)
	c := &clock{wall: func() time.Time { return wall }}
	want := func(what string, want int64) {
		t.Helper()
		if got := c.tick(); !got.Equal(time.Unix(want, 0)) {
			t.Errorf("%s it is %v, want %v", what, got, time.Unix(want, 0))
		}
	}
	want("at first", 1000)
	c.learn(time.Unix(5000, 0).UnixNano())
	want("after a leader whose clock is ahead", 5000)
	wall = time.Unix(900, 0)
	want("when its own is set back", 5000)
	wall = time.Unix(6000, 0)
	want("when its own is ahead", 6000)
	c.learn(time.Unix(10, 0).UnixNano())
	want("after a leader whose clock is behind", 6000)
}

// TestBehindIsNotReady: a relay whose copy lacks for long what it knows to be committed should not be asked (C10).
func TestBehindIsNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &Keep{reader: newReader(&clientv3.Client{}, "position")}
		heard := func(revision int64) {
			now := time.Now()
			k.reader.heard.Store(&now)
			k.reader.note(revision, now, &k.progress)
		}
		heard(7)
		k.progress.reach(7, 1)
		if err := k.Ready(time.Minute); err != nil {
			t.Errorf("one that has everything: %v", err)
		}
		heard(8)
		time.Sleep(mostLag)
		heard(9) // which takes nothing back
		if err := k.Ready(time.Minute); err != nil {
			t.Errorf("one that is behind for %v: %v", k.Lag(), err)
		}
		time.Sleep(time.Second)
		heard(10)
		if err := k.Ready(time.Minute); err == nil {
			t.Errorf("one that is behind for %v is ready", k.Lag())
		}
		k.progress.reach(8, 2)
		heard(10)
		if err := k.Ready(time.Minute); err != nil {
			t.Errorf("one that has caught up with what it knew: %v", err)
		}
	})
}
