package queryapi

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/relayapi"
	"pushrelay/internal/selector"
)

// A groupsQuery is which groups a request is about.
type groupsQuery struct {
	chosen       *selector.Selector
	pushedBefore time.Time                   // zero if it does not matter
	is           func(groupstore.Group) bool // the state; nil if it does not matter
	limit        int                         // 0 for all
	after        string                      // canonical key; empty for the first page
	dryRun       bool
}

// means says whether the request is about the group.
func (q *groupsQuery) means(g groupstore.Group) bool {
	return q.chosen.Matches(g.Key()) && (q.pushedBefore.IsZero() || g.PushTime().Before(q.pushedBefore)) && (q.is == nil || q.is(g))
}

// parseGroupsQuery reads the query of GET or DELETE. What is not known is an error: left out, it would mean more groups.
func parseGroupsQuery(r *http.Request) (*groupsQuery, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("the query cannot be read: %w", err)
	}
	q := &groupsQuery{}
	known := []string{selector.Parameter, relayapi.ParamPushedBefore, relayapi.ParamState}
	if r.Method == http.MethodDelete {
		known = append(known, relayapi.ParamDryRun)
	} else {
		q.limit = defaultPage
		known = append(known, relayapi.ParamLimit, relayapi.ParamAfter)
	}
	for name, all := range values {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("parameter %q is not one of %s", name, strings.Join(known, ", "))
		}
		if name != selector.Parameter && len(all) > 1 {
			return nil, fmt.Errorf("parameter %s is there %d times, want it once", name, len(all))
		}
	}
	if q.chosen, err = selector.Parse(values[selector.Parameter]); err != nil {
		return nil, fmt.Errorf("%s: %w", selector.Parameter, err)
	}
	for _, parse := range []func(url.Values) error{q.parsePushedBefore, q.parseState, q.parseLimit, q.parseAfter, q.parseDryRun} {
		if err := parse(values); err != nil {
			return nil, err
		}
	}
	return q, nil
}

func (q *groupsQuery) parsePushedBefore(values url.Values) error {
	text, there := first(values, relayapi.ParamPushedBefore)
	if !there {
		return nil
	}
	if seconds, err := strconv.ParseFloat(text, 64); err == nil && seconds > 0 && seconds < math.MaxInt32*1000 {
		whole, fraction := math.Modf(seconds)
		q.pushedBefore = time.Unix(int64(whole), int64(fraction*1e9))
		return nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || at.Unix() <= 0 {
		return fmt.Errorf("%s is %q, want a time such as 2026-11-30T04:00:00Z, or seconds since 1970 (a + in it is written %%2B)", relayapi.ParamPushedBefore, text)
	}
	q.pushedBefore = at
	return nil
}

func (q *groupsQuery) parseState(values url.Values) error {
	text, there := first(values, relayapi.ParamState)
	if !there {
		return nil
	}
	if q.is = states[text]; q.is == nil {
		return fmt.Errorf("%s is %q, want one of %s", relayapi.ParamState, text, strings.Join(slices.Sorted(maps.Keys(states)), ", "))
	}
	return nil
}

func (q *groupsQuery) parseLimit(values url.Values) error {
	text, there := first(values, relayapi.ParamLimit)
	if !there {
		return nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > maxPage {
		return fmt.Errorf("%s is %q, want a number from 1 to %d", relayapi.ParamLimit, text, maxPage)
	}
	q.limit = limit
	return nil
}

func (q *groupsQuery) parseAfter(values url.Values) error {
	text, there := first(values, relayapi.ParamAfter)
	if !there {
		return nil
	}
	canonical, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil && len(canonical) == 0 {
		err = errors.New("it is empty")
	}
	if err == nil {
		_, err = grouping.FromCanonical(string(canonical))
	}
	if err != nil {
		return fmt.Errorf("%s is %q, want what the page before has as \"next\", or leave it out for the first page", relayapi.ParamAfter, text)
	}
	q.after = string(canonical)
	return nil
}

func (q *groupsQuery) parseDryRun(values url.Values) error {
	text, there := first(values, relayapi.ParamDryRun)
	if !there {
		return nil
	}
	dry, err := strconv.ParseBool(text)
	if err != nil {
		return fmt.Errorf("%s is %q, want true or false", relayapi.ParamDryRun, text)
	}
	q.dryRun = dry
	return nil
}

// first returns the value of a parameter, and whether it is there.
func first(values url.Values, name string) (string, bool) {
	all := values[name]
	if len(all) == 0 {
		return "", false
	}
	return all[0], true
}
