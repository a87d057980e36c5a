package link_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pushrelay/internal/change"
	"pushrelay/internal/faultproxy"
)

// TestAnswersAreTrue: whatever connections, commits and leaders do, each push that is told as taken is in the store once, and no other is.
func TestAnswersAreTrue(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	c.lead("a")
	var turn atomic.Uint64
	c.set(func() { c.whim = func() bool { return turn.Add(1)%7 == 0 } })
	b := c.members["b"]
	const groups, pushers, each = 2, 12, 40
	var taken [groups]atomic.Int64
	var all sync.WaitGroup
	for pusher := range pushers {
		all.Go(func() {
			for i := range each {
				group := (pusher + i) % groups
				p := pushOf(t, fmt.Sprint("j", group), i)
				p.Operation, p.Body = change.Add, []byte("# TYPE sum counter\nsum 1\n")
				broken := (pusher+i)%5 == 0
				if broken {
					p.Body = []byte("# TYPE sum counter\nsum 1 5\n") // no push has timestamps
				}
				o := b.Forwarder.Apply(t.Context(), p)
				switch {
				case o.IsTaken() && !broken:
					taken[group].Add(1)
				case o.IsTaken() || o.IsFinal() && !broken || !o.IsFinal() && o.Detail != "not now":
					t.Errorf("a push, broken %v: %+v", broken, o)
				}
			}
		})
	}
	over := make(chan struct{})
	go func() { all.Wait(); close(over) }()
	random := rand.New(rand.NewPCG(1, 2))
	for i := 0; ; i++ {
		letGo := c.store().commits.hold()
		select {
		case <-over:
			letGo()
			for group := range groups {
				if want := fmt.Sprintf("sum{instance=\"\",job=\"j%d\"} %d\n", group, taken[group].Load()); !strings.Contains(c.text(), want) {
					t.Errorf("the store lacks %q:\n%s", want, c.text())
				}
			}
			return
		case <-time.After(time.Duration(random.IntN(8)) * time.Millisecond):
		}
		if i < 200 { // then all comes to its end
			for _, m := range []string{"a", "c"} {
				if random.IntN(2) == 0 {
					c.members[m].proxy.Cut(faultproxy.Reset)
				}
			}
			if random.IntN(10) == 0 {
				c.lead([]string{"", "a", "b", "c"}[random.IntN(4)])
			}
		} else if i == 200 {
			c.lead("a")
		}
		letGo()
	}
}
