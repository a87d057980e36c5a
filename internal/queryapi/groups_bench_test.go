package queryapi_test

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/relayapi"
)

// BenchmarkDeleteGroups measures how 100,000 groups of ten series are pushed, by as many pushers as there are deleters, and deleted by a
// selector. What counts is the median of the ratio.
func BenchmarkDeleteGroups(b *testing.B) {
	if testing.Short() {
		b.Skip("makes 100,000 groups")
	}
	const count, pushersAtOnce = 100_000, 64
	text := ""
	for i := range 10 {
		text += fmt.Sprintf("# TYPE m%d gauge\nm%d{path=\"/api\"} %d\n", i, i, i)
	}
	body, err := new(exposition.Parser).ParseText([]byte(text), exposition.Options{})
	if err != nil {
		b.Fatal(err)
	}
	keys := make([]grouping.Key, count)
	for i := range keys {
		keys[i] = key(b, fmt.Sprintf("job batch instance host-%06d.example.com:9091 team t%d", i, i%100))
	}
	store := groupstore.New(groupstore.Config{})
	groups := newGroups(store)
	var ratios []float64
	for b.Loop() {
		start := time.Now()
		var pushers sync.WaitGroup
		for from := range pushersAtOnce {
			pushers.Go(func() {
				for i := from; i < count; i += pushersAtOnce {
					store.Apply(b.Context(), &change.Change{Operation: change.Replace, Key: keys[i], At: arrival}, groupstore.Content{Body: body})
				}
			})
		}
		pushers.Wait()
		pushed := time.Since(start)
		start = time.Now()
		if _, a := askGroups[relayapi.Deletion](b, groups.Delete, http.MethodDelete, `match[]={job="batch",instance=~"host.*"}`); a.Data.Deleted != count {
			b.Fatalf("%+v", a)
		}
		ratios = append(ratios, time.Since(start).Seconds()/pushed.Seconds())
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "delete/push")
}
