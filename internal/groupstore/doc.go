// Package groupstore is the grouping store: what every group pushed last, whether it fits together, and how it is
// exposed.
//
// It promises that a push costs what it pushes, however full the store is; that whatever is exposed can be read as a whole
// by Prometheus; and that one group's families come from the pushes of that group only, whole. It knows neither HTTP nor
// gRPC nor agents, and it parses nothing: a body arrives as an [exposition.Body], and an exposition
// leaves through an io.Writer, for a long one written by a goroutine that the call waits for.
//
// Its shape: a family of a group is a set of series ([series.Set]: names, labels, bucket bounds, with holes where the grouping labels go) that
// all groups with the same series share, and the text of its values. Both are immutable, so that a scrape copies pointers
// under the lock and renders outside it. Start reading at [Store.Apply], the one door through which it is changed, then at Store.take,
// decision and Store.commit. A [Store] has four rooms, see there: what groups hold, what contradicts, what a push that comes again is known by, and who looks on.
package groupstore
