// Package middlebox has what stands between agents, relays and scrapers on the way: a proxy of an office, and nginx.
package middlebox
