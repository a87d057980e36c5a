package webpage

import (
	"maps"
	"net/url"
	"slices"
	"strconv"
)

// A Pager leads from one part of a long list to the next, as the part "pages" shows it.
type Pager struct {
	Matching    int // how many there are in all
	First, Last int // the numbers of those that are shown, from 1
	Previous    string
	Next        string // links; empty at the ends
}

// NewPager returns the pager of a list of which so many match, from the parameter "from" of the query on, and the bounds of what it shows.
func NewPager(query url.Values, matching, perPage int) (p Pager, from, to int) {
	from, err := strconv.Atoi(query.Get("from"))
	if err != nil || from < 0 {
		from = 0
	}
	if from >= matching { // what was there is gone
		from = max((matching-1)/perPage*perPage, 0)
	}
	to = min(from+perPage, matching)
	p = Pager{Matching: matching, First: from + 1, Last: to}
	if from > 0 {
		p.Previous = linkFrom(query, max(from-perPage, 0))
	}
	if to < matching {
		p.Next = linkFrom(query, to)
	}
	return p, from, to
}

func linkFrom(query url.Values, from int) string {
	if from == 0 {
		return With(query, "from", "")
	}
	return With(query, "from", strconv.Itoa(from))
}

// With returns the query as a link, with one parameter set to another value, or without it where the value is empty.
func With(query url.Values, name, value string) string {
	changed := maps.Clone(query)
	if changed == nil {
		changed = url.Values{}
	}
	if value == "" {
		changed.Del(name)
	} else {
		changed.Set(name, value)
	}
	return "?" + changed.Encode()
}

// Known returns of a query what a page knows: the first value of each of its parameters that is not empty. Links are made of that.
func Known(query url.Values, names ...string) url.Values {
	known := url.Values{}
	for name, values := range query {
		if slices.Contains(names, name) && len(values) > 0 && values[0] != "" {
			known.Set(name, values[0])
		}
	}
	return known
}
