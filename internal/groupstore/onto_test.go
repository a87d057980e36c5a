package groupstore_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/addup"
	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/metric"
)

// onto pushes onto what the group of job j has.
func (t *tester) onto(op change.Operation, gauges addup.Gauges, text string, at time.Time) error {
	t.tb.Helper()
	c := pushing{Operation: op, Key: key(t.tb, "job", "j"), At: at}.change()
	c.Gauges = gauges
	o, _ := t.store.Apply(t.tb.Context(), c, groupstore.Content{Body: bodyOf(parse(t.tb, text)...)})
	return o.Err()
}

// TestAdd: what adding and merging make of each type of metric (L11, L12).
func TestAdd(t *testing.T) {
	const (
		h1 = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"5\"} 2\nh_bucket{le=\"+Inf\"} 3\nh_sum 20\nh_count 3\n"
		h2 = "# TYPE h histogram\nh_bucket{le=\"2\"} 4\nh_bucket{le=\"5\"} 5\nh_bucket{le=\"+Inf\"} 6\nh_sum 30\nh_count 6\n"
		s1 = "# TYPE s summary\ns{quantile=\"0.5\"} 3\ns_sum 10\ns_count 4\n"
	)
	merge, add := change.MergeSeries, change.Add
	type step struct {
		op     change.Operation
		gauges addup.Gauges
		text   string
	}
	for _, tt := range []struct {
		name  string
		steps []step
		want  string
	}{
		{"counters", []step{{add, 0, "# TYPE c counter\nc 1\n"}, {add, 0, "# TYPE c counter\nc 2.5\n"}}, "# TYPE c counter\nc 3.5\n"},
		{"a new series", []step{{add, 0, "# TYPE c counter\nc{l=\"a\"} 1\n"}, {add, 0, "# TYPE c counter\nc{l=\"b\"} 2\n"}, {add, 0, "# TYPE c counter\nc{l=\"a\"} 4\nc{l=\"b\"} 8\n"}}, "# TYPE c counter\nc{l=\"a\"} 5\nc{l=\"b\"} 10\n"},
		{"another family", []step{{add, 0, "# TYPE c counter\nc 1\n"}, {add, 0, "# TYPE d counter\nd 2\n"}}, "# TYPE c counter\nc 1\n# TYPE d counter\nd 2\n"},
		{"onto what was put", []step{{put, 0, "# TYPE c counter\nc 1\n"}, {add, 0, "# TYPE c counter\nc 2\n"}, {add, 0, "# TYPE c counter\nc 4\n"}}, "# TYPE c counter\nc 7\n"},
		{"put begins anew", []step{{add, 0, "# TYPE c counter\nc 1\n"}, {put, 0, "# TYPE c counter\nc 2\n"}}, "# TYPE c counter\nc 2\n"},
		{"post replaces the family", []step{{add, 0, "# TYPE c counter\nc{l=\"a\"} 1\n"}, {post, 0, "# TYPE c counter\nc{l=\"b\"} 2\n"}}, "# TYPE c counter\nc{l=\"b\"} 2\n"},
		{"the last gauge", []step{{add, addup.Last, "# TYPE g gauge\ng 5\n"}, {add, addup.Last, "# TYPE g gauge\ng 3\n"}}, "# TYPE g gauge\ng 3\n"},
		{"sum of gauges", []step{{add, addup.Sum, "# TYPE g gauge\ng 5\n"}, {add, addup.Sum, "# TYPE g gauge\ng 3\n"}}, "# TYPE g gauge\ng 8\n"},
		{"least gauge", []step{{add, addup.Min, "# TYPE g gauge\ng 5\n"}, {add, addup.Min, "# TYPE g gauge\ng 3\n"}, {add, addup.Min, "# TYPE g gauge\ng 4\n"}}, "# TYPE g gauge\ng 3\n"},
		{"largest gauge", []step{{add, addup.Max, "# TYPE g gauge\ng 5\n"}, {add, addup.Max, "# TYPE g gauge\ng 3\n"}}, "# TYPE g gauge\ng 5\n"},
		{"untyped as a gauge", []step{{add, addup.Sum, "u 5\n"}, {add, addup.Sum, "u{l=\"x\"} 1\nu 3\n"}}, "# TYPE u untyped\nu 8\nu{l=\"x\"} 1\n"},
		{"another type", []step{{add, 0, "# TYPE c counter\nc 1\n"}, {add, addup.Sum, "# TYPE c gauge\nc 2\n"}}, "# TYPE c gauge\nc 2\n"},
		{"histograms", []step{{add, 0, h1}, {add, 0, h1}}, "# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"5\"} 4\nh_bucket{le=\"+Inf\"} 6\nh_sum 40\nh_count 6\n"},
		{"histograms of other buckets", []step{{add, 0, h1}, {add, 0, h2}}, "# TYPE h histogram\nh_bucket{le=\"5\"} 7\nh_bucket{le=\"+Inf\"} 9\nh_sum 50\nh_count 9\n"},
		{"summaries", []step{{put, 0, s1}, {add, 0, s1}, {add, 0, s1}}, "# TYPE s summary\ns_sum 30\ns_count 12\n"},
		{"merge", []step{{put, 0, "m{l=\"a\"} 1\nm{l=\"b\"} 2\nn 1\n"}, {merge, 0, "m{l=\"b\"} 3\nm{l=\"c\"} 4\n"}}, "# TYPE m untyped\nm{l=\"a\"} 1\nm{l=\"b\"} 3\nm{l=\"c\"} 4\n# TYPE n untyped\nn 1\n"},
		{"merge of the same series", []step{{put, 0, "m{l=\"a\"} 1\n"}, {merge, 0, "m{l=\"a\"} 2\n"}}, "# TYPE m untyped\nm{l=\"a\"} 2\n"},
		{"a label of the group, and an empty one", []step{{add, 0, "# TYPE c counter\nc{job=\"x\",l=\"\"} 1\n"}, {add, 0, "# TYPE c counter\nc 2\nc{m=\"1\"} 1\n"}}, "# TYPE c counter\nc{l=\"\"} 3\nc{m=\"1\"} 1\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			log := &journal{}
			s := newTester(t, groupstore.Config{Appender: log})
			for i, st := range tt.steps {
				if err := s.onto(st.op, st.gauges, st.text, noon.Add(time.Duration(i)*time.Second)); err != nil {
					t.Fatal(err)
				}
			}
			plain := strings.NewReplacer(`instance="",job="j",`, "", `,instance="",job="j"`, "", `{instance="",job="j"}`, "")
			if diff := cmp.Diff(tt.want, plain.Replace(s.text())); diff != "" {
				t.Errorf("exposition (-want +got):\n%s", diff)
			}
			again := replayed(t, log)
			if diff := cmp.Diff(s.full(), again.full()); diff != "" {
				t.Errorf("after a replay (-before +after):\n%s", diff)
			}
			if diff := cmp.Diff(s.store.Tables(), again.store.Tables()); diff != "" {
				t.Errorf("tables after a replay (-before +after):\n%s", diff)
			}
		})
	}
}

// TestAddBegins: an aggregate began with its first add, and anew once it was deleted or has expired (L15).
func TestAddBegins(t *testing.T) {
	s, c := newLiving(t, groupstore.Config{})
	created := func(want time.Time, value string) {
		t.Helper()
		for g := range s.store.Snapshot().Groups() {
			for f := range g.Families() {
				if f.Name() != "c_total" {
					continue
				}
				for m := range f.Metrics() {
					if got := m.Counter.CreatedTimestamp.AsTime(); !got.Equal(want) || fmt.Sprint(m.Counter.GetValue()) != value {
						t.Errorf("%v since %v, want %s since %v", m.Counter.GetValue(), got, value, want)
					}
				}
			}
		}
	}
	add := func() {
		t.Helper()
		p := pushing{Operation: change.Add, Key: key(t, "job", "j"), At: c.Time, Body: bodyOf(parse(t, "# TYPE c_total counter\nc_total 1\n")...), Life: declared(t, lifetime.Texts{TTL: "1h"})}
		if _, err := apply(t.Context(), s.store, p); err != nil {
			t.Fatal(err)
		}
	}
	add()
	c.to("10m")
	add()
	created(noon, "2")
	s.delete(key(t, "job", "j"))
	c.to("20m")
	add()
	created(c.Time, "1")
	c.to("2h")
	add()
	created(c.Time, "1")
	if got := s.write(groupstore.Form{Format: exposition.OpenMetrics100, Escaping: metric.AllowUTF8}); !strings.Contains(got, "c_total{") {
		t.Errorf("OpenMetrics is %s", got)
	}
}

// TestAddAtOnce: many workers add to one group, each with series of its own beside the common one, while others replace another family of it: nothing
// is lost and nothing counted twice.
func TestAddAtOnce(t *testing.T) {
	const workers, each = 8, 50
	s := newTester(t, groupstore.Config{})
	var work sync.WaitGroup
	for w := range workers {
		work.Go(func() {
			for i := range each {
				text := fmt.Sprintf("# TYPE c counter\nc 1\nc{worker=\"%d\",i=\"%d\"} 1\n", w, i%3)
				if err := s.onto(change.Add, 0, text, noon); err != nil {
					t.Error(err)
				}
			}
		})
		work.Go(func() {
			for range each {
				if err := s.onto(post, 0, "other 1\n", noon); err != nil {
					t.Error(err)
				}
			}
		})
	}
	work.Wait()
	text := s.text()
	if !strings.Contains(text, fmt.Sprintf("c{instance=\"\",job=\"j\"} %d\n", workers*each)) || strings.Count(text, "worker=") != 3*workers || strings.Count(text, "} 17\n") != 2*workers {
		t.Errorf("exposed is\n%s", text)
	}
}

// TestAddModel holds random adds of counters and gauges, deletions and replacements against sums that are kept apart.
func TestAddModel(t *testing.T) {
	for round := range 30 {
		rnd := rand.New(rand.NewPCG(11, uint64(round)))
		s := newTester(t, groupstore.Config{})
		want := map[string]float64{}
		for step := range 60 {
			var body strings.Builder
			pushed := map[string]float64{}
			for range 1 + rnd.IntN(4) {
				pushed[fmt.Sprintf("c{instance=\"%d\",job=\"j\"}", rnd.IntN(4))] = float64(rnd.IntN(100))
			}
			body.WriteString("# TYPE c counter\n")
			for series, v := range pushed {
				fmt.Fprintf(&body, "%s %g\n", series, v)
			}
			op := []change.Operation{change.Add, change.Add, change.Add, change.MergeSeries, put, post, change.Delete}[rnd.IntN(7)]
			if err := s.onto(op, 0, body.String(), noon.Add(time.Duration(step)*time.Second)); err != nil {
				t.Fatal(err)
			}
			if !op.IsOnto() {
				clear(want)
			}
			for series, v := range pushed {
				switch op {
				case change.Add:
					want[series] += v
				case change.Delete:
				default:
					want[series] = v
				}
			}
			if diff := cmp.Diff(want, values(s.text())); diff != "" {
				t.Fatalf("round %d, step %d: %v of\n%s(-want +got):\n%s", round, step, op, body.String(), diff)
			}
		}
	}
}

// values returns the values of an exposition by series.
func values(text string) map[string]float64 {
	got := map[string]float64{}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		series, token, _ := strings.Cut(strings.TrimSpace(line), " ")
		value, _ := strconv.ParseFloat(token, 64)
		got[series] = value
	}
	return got
}
