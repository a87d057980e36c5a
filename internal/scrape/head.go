package scrape

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

// redirects are the statuses whose Location clients follow.
var redirects = []int{
	http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect,
}

// CheckHead returns why an answer with this head is not passed on, or nil. Both ends ask: an agent of an earlier release does not.
//
// A redirect never leaves the relay (T28). A scraper would follow it to wherever a target wants, with the password that it has for the
// relay; one without a host leads to the relay itself, whose own metrics would then be stored as the target's.
func CheckHead(status int, header http.Header) *Error {
	switch {
	case status < http.StatusOK || status > 599:
		return Errorf(TargetUnreachable, "the target answered with the status %d, which ends no request", status)
	case slices.Contains(redirects, status):
		return Errorf(TargetRedirects, "the target answered %d, a redirect to %s that is not followed: give the agent the address, scheme and path at which its metrics are",
			status, placeOf(header.Get("Location")))
	}
	return nil
}

// maxPlaceBytes is how much of the place is told to which a redirect leads.
const maxPlaceBytes = 256

// placeOf returns where a redirect leads, in one line, without what may be secret: user, password and query.
func placeOf(location string) string {
	u, err := url.Parse(location)
	if err != nil || location == "" {
		return "no valid URL"
	}
	place := (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
	if len(place) > maxPlaceBytes {
		return strconv.QuoteToASCII(place[:maxPlaceBytes]) + "…"
	}
	return strconv.QuoteToASCII(place)
}
