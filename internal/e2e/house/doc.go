// Package house has a relay and its agents as processes: with certificates, data dirs, networks between them that can be broken, clocks that can be set,
// and what they tell of themselves.
package house
