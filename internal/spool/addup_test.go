package spool_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protodelim"

	"pushrelay/internal/addup"
	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/spool"
)

// counters returns a body of counters, each given as name and value.
func counters(namesAndValues ...any) string {
	var text strings.Builder
	for i := 0; i < len(namesAndValues); i += 2 {
		fmt.Fprintf(&text, "# TYPE %s counter\n%s %v\n", namesAndValues[i], namesAndValues[i], namesAndValues[i+1])
	}
	return text.String()
}

// TestWhatIsAddedUp: what waits of additions is one part, for the relays that no part of it may have reached, and what each gets comes to the same (L14).
func TestWhatIsAddedUp(t *testing.T) {
	for _, tt := range []struct {
		name string
		push func(h *house)
		took []string
	}{
		{
			name: "a day of additions",
			push: func(h *house) {
				for range 1000 {
					h.must(change.Spooled, change.Add, "j", counters("c", 1))
				}
			},
			took: []string{"add j c 1000\n"},
		},
		{
			name: "other families and series",
			push: func(h *house) {
				h.must(change.Spooled, change.Add, "j", counters("c", 1))
				h.must(change.Spooled, change.Add, "j", counters("d", 2))
				h.must(change.Spooled, change.Add, "j", "# TYPE c counter\nc 3\nc{w=\"x\"} 4\n")
			},
			took: []string{"add j c 4\nc{w=\"x\"} 4\nd 2\n"},
		},
		{
			name: "a POST replaces what it brings, and what is added to it waits after it",
			push: func(h *house) {
				h.must(change.Spooled, change.Add, "j", counters("c", 1, "d", 1))
				h.must(change.Spooled, change.Merge, "j", counters("c", 5))
				h.must(change.Spooled, change.Add, "j", counters("c", 1))
				h.must(change.Spooled, change.Add, "j", counters("c", 1))
			},
			took: []string{"add j # TYPE d counter\nd 1\n", "merge j # TYPE c counter\nc 5\n", "add j c 2\n"},
		},
		{
			name: "a PUT and a DELETE replace everything",
			push: func(h *house) {
				h.must(change.Spooled, change.Add, "j", counters("c", 1))
				h.must(change.Spooled, change.Replace, "j", counters("c", 5))
				h.must(change.Spooled, change.Add, "j", counters("c", 1))
				h.must(change.Spooled, change.Add, "k", counters("c", 1))
				h.must(change.Spooled, change.Delete, "k", "")
			},
			took: []string{"replace j # TYPE c counter\nc 5\n", "delete k ", "add j # TYPE c counter\nc 1\n"},
		},
		{
			name: "single series",
			push: func(h *house) {
				h.must(change.Spooled, change.MergeSeries, "j", "c{w=\"x\"} 1\nc{w=\"y\"} 1\n")
				h.must(change.Spooled, change.MergeSeries, "j", "c{w=\"y\"} 2\n")
				h.must(change.Spooled, change.Add, "j", "c{w=\"y\"} 3\n")
			},
			took: []string{"merge series j c{w=\"x\"} 1\nc{w=\"y\"} 2\n", "add j c{w=\"y\"} 3\n"},
		},
		{
			name: "other types stay apart",
			push: func(h *house) {
				h.must(change.Spooled, change.Add, "j", counters("c", 1))
				h.must(change.Spooled, change.Add, "j", "# TYPE c gauge\nc 2\n")
				h.must(change.Spooled, change.Add, "j", counters("c", 1))
			},
			took: []string{"add j # TYPE c counter\nc 1\n", "add j # TYPE c gauge\nc 2\n", "add j # TYPE c counter\nc 1\n"},
		},
		{
			name: "series that a relay takes for one",
			push: func(h *house) {
				h.must(change.Spooled, change.Add, "j", "# TYPE c counter\nc{job=\"x\"} 1\n")
				h.must(change.Spooled, change.Add, "j", "# TYPE c counter\nc{job=\"y\"} 2\n")
			},
			took: []string{"add j c 3\n"},
		},
		{
			name: "empty ones",
			push: func(h *house) {
				h.must(change.Spooled, change.Add, "j", "")
				h.must(change.Spooled, change.Add, "j", "")
			},
			took: []string{"add j "},
		},
	} {
		for _, restart := range []string{"", "after a kill", "after a snapshot"} {
			t.Run(tt.name+" "+restart, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := newHouse(t, "a:1")
					defer func() { h.close() }()
					tt.push(h)
					switch restart {
					case "after a kill":
						h.crash()
					case "after a snapshot":
						if err := h.Snapshot(t.Context()); err != nil {
							t.Fatal(err)
						}
						h.crash()
					}
					if err := h.Check(); err != nil {
						t.Error(err)
					}
					r := newRelay("a:1", 1)
					defer h.attach(r)()
					settle()
					if got := r.took(); !slices.Equal(got, tt.took) {
						t.Errorf("the relay took %q, want %q", got, tt.took)
					}
				})
			})
		}
	}
}

// TestSumsSayWhatTheirPartsSaid: a sum has the newest time and failure, all declarations, and the created timestamps of the oldest.
func TestSumsSayWhatTheirPartsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		defer func() { h.close() }()
		began := time.Now()
		for i, texts := range []lifetime.Texts{{TTL: "1h", Grace: "5m"}, {TTL: "2h"}} {
			p := request(change.Add, "j", counters("c", 1)+"# TYPE g gauge\ng 1\n")
			p.Gauges, p.Failed = addup.Sum, fmt.Sprint("exit status ", i)
			life, err := lifetime.Parse(texts)
			if err != nil {
				t.Fatal(err)
			}
			p.Life = life
			if o := h.Apply(t.Context(), p); o.Kind != change.Spooled {
				t.Fatalf("Apply = %+v", o)
			}
			time.Sleep(time.Minute)
		}
		h.crash()
		feed := h.attachIdle(newRelay("a:1", 1))
		defer feed.Detach()
		c, err := feed.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		p, err := feed.Request(c, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if want := (lifetime.Texts{TTL: "2h", Grace: "5m"}); p.Life.Texts() != want || p.Failed != "exit status 1" || p.Gauges != addup.Sum || !p.At.Equal(began.Add(time.Minute)) {
			t.Errorf("the sum says %+v, %q, %v, and was pushed %s after the first", p.Life.Texts(), p.Failed, p.Gauges, p.At.Sub(began))
		}
		var mf dto.MetricFamily
		if err := protodelim.UnmarshalFrom(strings.NewReader(string(p.Body)), &mf); err != nil {
			t.Fatal(err)
		}
		if counter := mf.Metric[0].Counter; counter.GetValue() != 2 || !counter.GetCreatedTimestamp().AsTime().Equal(began) {
			t.Errorf("the counter is %v, want 2 since %v", counter, began)
		}
		if c.Bytes != len(p.Body) {
			t.Errorf("%d bytes are counted, %d are sent", c.Bytes, len(p.Body))
		}
		if got := shown(p); got != "c 2\ng 2\n" {
			t.Errorf("the sum is %q", got)
		}
	})
}

// TestSumsStayWithinLimits: what a relay would refuse for its size is not added up, also if another one would take it.
func TestSumsStayWithinLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		defer func() { h.close() }()
		h.meet("a:1", 1, spool.Attachment{Limits: exposition.Limits{MaxSeries: 3}})
		for i := range 8 {
			h.must(change.Spooled, change.Add, "j", counters(fmt.Sprint("c", i), 1))
		}
		if n := h.pending("a:1"); n != 3 {
			t.Errorf("%d parts wait, want 3", n)
		}
		r := newRelay("a:1", 1)
		r.judge = func(p *change.Change) error {
			if len(samplesOf(p)) > 3 {
				return errClash
			}
			return nil
		}
		h.visit(r)
		if got := r.has("j"); len(got) != 8 {
			t.Errorf("the relay has %v", got)
		}
	})
}

// TestLargeSums: a large sum is not made anew for each small addition, and what waits stays a few parts.
func TestLargeSums(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		defer func() { h.close() }()
		var large strings.Builder
		large.WriteString("# TYPE c counter\n")
		for i := range 2000 {
			fmt.Fprintf(&large, "c{w=\"worker %d\"} 1\n", i)
		}
		h.must(change.Spooled, change.Add, "j", large.String())
		for i := range 500 {
			h.must(change.Spooled, change.Add, "j", fmt.Sprintf("# TYPE c counter\nc{w=\"worker %d\"} 1\n", i))
		}
		if n := h.pending("a:1"); n > 4 {
			t.Errorf("%d parts wait", n)
		}
		r := newRelay("a:1", 1)
		h.visit(r)
		got := r.has("j")
		if len(got) != 2000 || got[`c{w="worker 499"}`] != `c{w="worker 499"} 2` || got[`c{w="worker 500"}`] != `c{w="worker 500"} 1` {
			t.Errorf("the relay has %d series, %q", len(got), got[`c{w="worker 499"}`])
		}
	})
}

// TestDecidedAdditionsAreBounded: what is kept of additions that all relays have is what they come to, however they take turns with others.
func TestDecidedAdditionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		defer func() { h.close() }()
		r := newRelay("a:1", 1)
		detach := h.attach(r)
		h.must(change.Applied, change.Replace, "j", counters("c", 5))
		var early int64
		for i := range 300 {
			h.must(change.Applied, change.Add, "j", counters("c", 1))
			h.must(change.Applied, change.MergeSeries, "j", fmt.Sprintf("d{w=\"%d\"} %d\n", i%5, i))
			if i == 50 {
				early = h.Status().Bytes
			}
		}
		if late := h.Status().Bytes; late > 2*early {
			t.Errorf("the spool holds %d bytes after 50 turns and %d after 300", early, late)
		}
		want := r.has("j")
		if want["c"] != "c 305" || len(want) != 6 {
			t.Fatalf("the relay has %v", want)
		}
		detach()
		h.crash()
		lost := newRelay("a:1", 2)
		h.visit(lost)
		wantMap(t, "a relay that lost its data", lost.has("j"), want)
		for _, line := range lost.took() {
			if !strings.HasPrefix(line, "replace") && !strings.HasPrefix(line, "merge j") {
				t.Errorf("it got %q", line)
			}
		}
	})
}

// TestAStoreThatWasPutBackGetsTotals: a relay that has some of what was added up for another one gets what it comes to (T18).
func TestAStoreThatWasPutBackGetsTotals(t *testing.T) {
	for _, restart := range []string{"", "after a kill", "after a snapshot"} {
		t.Run(restart, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, "a:1", "b:1")
				defer func() { h.close() }()
				a, b := newRelay("a:1", 1), newRelay("b:1", 2)
				h.visit(b)
				detach := h.attach(a)
				h.do(change.Replace, "j", counters("c", 100))
				for range 5 {
					h.do(change.Add, "j", counters("c", 1))
				}
				copied := a.copy("a:1")
				for range 6 {
					h.do(change.Add, "j", counters("c", 1))
				}
				settle()
				detach()
				if n := h.pending("b:1"); n != 2 {
					t.Errorf("%d changes wait for b, want the PUT and one sum", n)
				}
				copied.restart()
				told := spool.Attachment{Relay: "a:1", Store: copied.id, Journal: h.Journal(), Decided: copied.journals[h.Journal()], History: copied.history}
				state, err := h.Attach(told)
				if err != nil {
					t.Fatal(err)
				}
				state.State(t.Context()) // It is on the disk that it was put back.
				state.Detach()
				if restart == "after a snapshot" {
					if err := h.Snapshot(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				if restart != "" {
					h.crash()
				}
				h.visit(copied)
				wantMap(t, "a", copied.has("j"), map[string]string{"c": "c 111"})
				h.do(change.Add, "j", counters("c", 1))
				h.visit(b)
				h.visit(copied)
				wantMap(t, "a", copied.has("j"), map[string]string{"c": "c 112"})
				wantMap(t, "b", b.has("j"), map[string]string{"c": "c 112"})
			})
		})
	}
}

// TestSumsSurviveANewJournal: what a sum consists of gets no new numbers, and nothing of it is lost by a kill after that.
func TestSumsSurviveANewJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1", "b:1")
		defer func() { h.close() }()
		a, b := newRelay("a:1", 1), newRelay("b:1", 2)
		h.visit(b)
		detach := h.attach(a)
		for range 5 {
			h.do(change.Add, "j", counters("c", 1))
		}
		settle()
		detach()
		journal := h.Journal()
		a.journals[journal] = spool.Decided{Sequence: 1000}
		h.visit(a)
		if h.Journal() == journal {
			t.Fatal("the journal is the old one")
		}
		h.crash()
		h.visit(b)
		h.visit(a)
		wantMap(t, "a", a.has("j"), map[string]string{"c": "c 5"})
		wantMap(t, "b", b.has("j"), map[string]string{"c": "c 5"})
	})
}

// TestDeclarationsSurviveANewJournal: what was declared by a push that is gone is said by the next one, also if that has a new number and the
// agent is killed then.
func TestDeclarationsSurviveANewJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		defer func() { h.close() }()
		r := newRelay("a:1", 1)
		h.Apply(t.Context(), living(t, change.Replace, "m 1\n", lifetime.Texts{TTL: "1h"}, ""))
		h.Apply(t.Context(), living(t, change.Replace, "m 2\n", lifetime.Texts{}, ""))
		h.meet("a:1", 1, spool.Attachment{Journal: h.Journal(), Decided: spool.Decided{Sequence: 1000}})
		h.crash()
		h.visit(r)
		if got := r.lifeOf("j").declared.Texts(); got.TTL != "1h" {
			t.Errorf("the relay heard %+v", got)
		}
	})
}

// TestARejectedSum: a sum that is rejected late is lost with its parts, also for a spool that is read again.
func TestARejectedSum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		defer func() { h.close() }()
		h.must(change.Spooled, change.Add, "j", counters("c", 1))
		h.must(change.Spooled, change.Add, "j", counters("c", 1))
		r := newRelay("a:1", 1)
		r.judge = refuseAll
		h.visit(r)
		state := h.attachIdle(r)
		state.State(t.Context())
		state.Detach()
		h.crash()
		h.visit(newRelay("a:1", 2))
		if st := h.Status(); st.Groups != 0 || st.Entries != 0 {
			t.Errorf("the spool has %d groups and %d changes that wait", st.Groups, st.Entries)
		}
	})
}
