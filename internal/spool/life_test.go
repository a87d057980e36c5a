package spool_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"pushrelay/internal/change"
	"pushrelay/internal/lifetime"
)

func declared(t *testing.T, texts lifetime.Texts) lifetime.Declaration {
	t.Helper()
	d, err := lifetime.Parse(texts)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// living is a push that says something of its group's life.
func living(t *testing.T, op change.Operation, body string, texts lifetime.Texts, failed string) *change.Change {
	t.Helper()
	r := request(op, "j", body)
	r.Life, r.Failed = declared(t, texts), failed
	return r
}

// TestDeclarationsOutliveTheirContent: what a push declared is not lost with its content, once newer pushes replace that (L1).
func TestDeclarationsOutliveTheirContent(t *testing.T) {
	type texts = lifetime.Texts
	type pushed struct {
		op     change.Operation
		body   string
		life   texts
		failed string
	}
	for _, tt := range []struct {
		name   string
		pushes []pushed
		had    texts // what the relay has of the group already
		want   texts
		failed string
		took   int // how many changes travel
	}{
		{
			name:   "PUT after PUT",
			pushes: []pushed{{change.Replace, "m 1\n", texts{TTL: "1h", Every: "1d"}, "exit status 1"}, {change.Replace, "m 2\n", texts{Every: "2d"}, ""}},
			want:   texts{TTL: "1h", Every: "2d"}, took: 1,
		},
		{
			name:   "a PUT that says nothing",
			pushes: []pushed{{change.Replace, "m 1\n", texts{Schedule: "0 0 * * *", Grace: "5m"}, ""}, {change.Replace, "m 2\n", texts{}, "exit status 2"}},
			want:   texts{Schedule: "0 0 * * *", Grace: "5m"}, failed: "exit status 2", took: 1,
		},
		{
			name:   "what was taken back",
			pushes: []pushed{{change.Replace, "m 1\n", texts{TTL: "0", Grace: "none"}, ""}, {change.Replace, "m 2\n", texts{}, ""}},
			had:    texts{TTL: "1h", Grace: "1h"}, want: texts{Grace: "none"}, took: 1,
		},
		{
			name: "a POST whose families were pushed anew",
			pushes: []pushed{
				{change.Replace, "n 1\n", texts{TTL: "1h", Grace: "1m"}, ""},
				{change.Merge, "m 1\n", texts{TTL: "2h", Every: "1d"}, "exit status 3"},
				{change.Merge, "m 2\n", texts{Every: "none"}, ""},
			},
			want: texts{TTL: "2h", Every: "none", Grace: "1m"}, took: 2,
		},
		{
			name: "a POST some of whose families were pushed anew",
			pushes: []pushed{
				{change.Merge, "m 1\nn 1\n", texts{TTL: "2h", Every: "1d"}, "exit status 3"}, {change.Merge, "m 2\n", texts{Every: "none"}, "exit status 4"},
			},
			want: texts{TTL: "2h", Every: "none"}, failed: "exit status 4", took: 2,
		},
		{
			name:   "a DELETE forgets",
			pushes: []pushed{{change.Replace, "m 1\n", texts{TTL: "1h"}, ""}, {change.Delete, "", texts{}, ""}, {change.Merge, "m 2\n", texts{Every: "1d"}, ""}},
			had:    texts{Grace: "1h"}, want: texts{Every: "1d"}, took: 2,
		},
		{
			name:   "a DELETE and a PUT, which is all that travels",
			pushes: []pushed{{change.Replace, "m 1\n", texts{TTL: "1h", Schedule: "0 0 * * *"}, ""}, {change.Delete, "", texts{}, ""}, {change.Replace, "m 2\n", texts{Grace: "1m"}, ""}},
			had:    texts{TTL: "1h"}, want: texts{Grace: "1m"}, took: 1,
		},
		{
			name:   "a failure that was noted",
			pushes: []pushed{{change.Replace, "m 1\n", texts{TTL: "1h"}, ""}, {change.Replace, "m 1\nm 2\n", texts{TTL: "9h"}, ""}, {change.Replace, "m 2\n", texts{}, ""}},
			want:   texts{TTL: "1h"}, took: 2,
		},
	} {
		for _, restart := range []string{"", "after a kill", "after a snapshot"} {
			t.Run(tt.name+" "+restart, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := newHouse(t, "a:1")
					defer func() { h.close() }()
					for _, p := range tt.pushes {
						h.Apply(t.Context(), living(t, p.op, p.body, p.life, p.failed)) // one of them is refused
					}
					if restart == "after a snapshot" {
						if err := h.Snapshot(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
					if restart != "" {
						h.crash()
					}
					r := newRelay("a:1", 1)
					r.lives[keyOf("j")] = life{declared: declared(t, tt.had)}
					h.visit(r)
					if got := r.lifeOf("j"); got.declared.Texts() != tt.want || got.failed != tt.failed {
						t.Errorf("the group has %+v and %q, want %+v and %q", got.declared.Texts(), got.failed, tt.want, tt.failed)
					}
					if got := r.took(); len(got) != tt.took {
						t.Errorf("the relay took %q, want %d changes", got, tt.took)
					}
					if err := h.Check(); err != nil {
						t.Error(err)
					}
				})
			})
		}
	}
}

// TestDeclarationsWaitForVerdicts: what a relay may be deciding stays as it is, and does not take over what an older push declared; that one
// waits until the verdict.
func TestDeclarationsWaitForVerdicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1", "b:2")
		defer func() { h.close() }()
		h.Apply(t.Context(), living(t, change.Replace, "m 1\n", lifetime.Texts{TTL: "1h"}, ""))
		a, b := newRelay("a:1", 1), newRelay("b:2", 2)
		h.visit(a)
		feed := h.attachIdle(a)
		waited := make(chan change.Outcome, 1)
		go func() {
			waited <- h.Apply(t.Context(), living(t, change.Replace, "m 2\n", lifetime.Texts{Every: "1d"}, ""))
		}()
		sent, err := feed.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := feed.Request(sent, nil, nil); err != nil || got.Life.Texts() != (lifetime.Texts{Every: "1d"}) {
			t.Errorf("%+v is sent, %v", got, err)
		}
		if o := <-waited; o.Kind != change.Spooled {
			t.Fatalf("the push that is not decided: %+v", o)
		}
		if got, err := feed.Request(sent, nil, nil); err != nil || got.Life.Texts() != (lifetime.Texts{Every: "1d"}) {
			t.Errorf("%+v is sent again, %v", got, err)
		}
		h.visit(b)
		if got := b.lifeOf("j").declared.Texts(); got != (lifetime.Texts{TTL: "1h", Every: "1d"}) {
			t.Errorf("the other relay has %+v", got)
		}
		feed.Decide(sent, change.Outcome{Kind: change.Applied})
		feed.Detach()
		if st := h.Status(); st.Groups != 1 || st.Entries != 0 {
			t.Errorf("%+v is kept", st)
		}
		if err := h.Check(); err != nil {
			t.Error(err)
		}
		lost := newRelay("a:1", 3)
		h.visit(lost)
		if got := lost.lifeOf("j").declared.Texts(); got != (lifetime.Texts{TTL: "1h", Every: "1d"}) || len(lost.took()) != 1 {
			t.Errorf("a relay that lost its data has %+v of %q", got, lost.took())
		}
	})
}

// TestDeclarationsOfRefusedPushes: a push that was withdrawn declares nothing, and what was before it stays.
func TestDeclarationsOfRefusedPushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1", "b:2")
		defer func() { h.close() }()
		h.Apply(t.Context(), living(t, change.Replace, "m 1\n", lifetime.Texts{TTL: "1h"}, ""))
		a, b := newRelay("a:1", 1), newRelay("b:2", 2)
		h.visit(a)
		a.judge = refuseAll
		detach := h.attach(a)
		if o := h.Apply(t.Context(), living(t, change.Replace, "m 2\n", lifetime.Texts{TTL: "2h", Grace: "5m"}, "")); !isFinal(o.Err()) {
			t.Errorf("the refused push: %+v", o)
		}
		a.with(func() { a.judge = nil })
		h.Apply(t.Context(), living(t, change.Replace, "m 3\n", lifetime.Texts{Every: "1d"}, ""))
		detach()
		h.visit(b)
		for _, r := range []*fakeRelay{a, b} {
			if got := r.lifeOf("j").declared.Texts(); got != (lifetime.Texts{TTL: "1h", Every: "1d"}) {
				t.Errorf("relay %s has %+v", r.address, got)
			}
		}
	})
}

// TestDeclarationsBesideAWithdrawal: a deletion that a relay refuses after a newer push came takes nothing back.
func TestDeclarationsBesideAWithdrawal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1", "b:2")
		defer func() { h.close() }()
		h.Apply(t.Context(), living(t, change.Replace, "m 1\n", lifetime.Texts{TTL: "1h"}, ""))
		a, b := newRelay("a:1", 1), newRelay("b:2", 2)
		h.visit(a)
		feed := h.attachIdle(a)
		defer feed.Detach()
		deleted := make(chan change.Outcome, 1)
		go func() { deleted <- h.Apply(t.Context(), request(change.Delete, "j", "")) }()
		sent, err := feed.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		h.Apply(impatient, living(t, change.Replace, "m 2\n", lifetime.Texts{Every: "1d"}, ""))
		feed.Decide(sent, *errClash)
		if o := <-deleted; !isFinal(o.Err()) {
			t.Errorf("the deletion: %+v", o)
		}
		h.visit(b)
		if got := b.lifeOf("j").declared.Texts(); got != (lifetime.Texts{TTL: "1h", Every: "1d"}) {
			t.Errorf("the other relay has %+v of %q", got, b.took())
		}
	})
}

// TestDeclarationsReachEveryRelay pushes at random, while relays come and go, lose verdicts and their data, and the agent is killed. In the end
// every relay has what a relay would have that was never away.
func TestDeclarationsReachEveryRelay(t *testing.T) {
	seeds := uint64(16)
	if testing.Short() {
		seeds = 6
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(seed, 7))
				h := newHouse(t, "a:1", "b:2")
				h.cfg.Wait = time.Second
				defer func() { h.close() }()
				relays := []*fakeRelay{newRelay("a:1", 1), newRelay("b:2", 2)}
				detach := make([]func(), len(relays))
				for i, r := range relays {
					detach[i] = func() {}
					luck := rand.New(rand.NewPCG(seed, uint64(i))) // the session's own
					r.lose = func() bool { return luck.IntN(8) == 0 }
				}
				goAway := func(i int) {
					detach[i]()
					detach[i] = func() {}
				}
				var want life
				body := map[string]string{}
				for step := range 60 {
					switch i := rnd.IntN(len(relays)); rnd.IntN(10) {
					case 0, 1:
						goAway(i)
					case 2, 3:
						goAway(i)
						detach[i] = h.attach(relays[i])
					case 4:
						goAway(0)
						goAway(1)
						if rnd.IntN(2) == 0 {
							if err := h.Snapshot(t.Context()); err != nil {
								t.Fatal(err)
							}
						}
						h.crash()
					default:
						p := randomPush(t, rnd, step)
						if err := h.Apply(t.Context(), p).Err(); err != nil {
							t.Fatal(err)
						}
						want, body = after(p, want, body)
					}
					if err := h.Check(); err != nil {
						t.Fatal(err)
					}
				}
				goAway(0)
				goAway(1)
				relays = append(relays, newRelay("a:1", 3)) // in the place of one that lost its data
				for _, r := range relays {
					r.lose = nil
					h.visit(r)
					wantMap(t, "relay "+r.address, r.has("j"), body)
					if got := r.lifeOf("j"); got != want {
						t.Errorf("relay %s has %+v and %q, want %+v and %q", r.address, got.declared.Texts(), got.failed, want.declared.Texts(), want.failed)
					}
				}
			})
		})
	}
}

// randomPush returns a push to the group j; its step is in the body.
func randomPush(t *testing.T, rnd *rand.Rand, step int) *change.Change {
	t.Helper()
	one := func(of ...string) string { return of[rnd.IntN(len(of))] }
	if rnd.IntN(5) == 0 {
		return request(change.Delete, "j", "")
	}
	texts := lifetime.Texts{TTL: one("", "", "0", "none", "1h", "2h"), Grace: one("", "", "0", "5m")}
	if rnd.IntN(2) == 0 {
		texts.Every = one("", "0", "none", "1d")
	} else {
		texts.Schedule = one("", "0 0 * * *", "15 3 * * *")
	}
	op, body := change.Replace, ""
	if rnd.IntN(2) == 0 {
		op = change.Merge
	}
	for _, name := range []string{"m", "n", "o"} {
		if rnd.IntN(2) == 0 {
			body += fmt.Sprintf("%s %d\n", name, step)
		}
	}
	return living(t, op, body, texts, one("", "", fmt.Sprintf("exit status %d", step)))
}

// after returns what a group has after a push, of its life and its content.
func after(p *change.Change, had life, content map[string]string) (life, map[string]string) {
	if p.Operation == change.Delete {
		return life{}, nil
	}
	return had.after(p), contentAfter(content, p)
}
