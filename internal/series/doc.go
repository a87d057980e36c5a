// Package series is sets of series: what a metric family of a push is apart from its values.
//
// An [Encoder] turns a body into the encodings of its families, and says what is wrong with it whatever a store holds. The neutral form of a
// [Set] is its encoding; everything else is derived from that, so that a log or a snapshot carries encodings alone (S19). A [Table] holds
// each set once, for all groups that have it. A [Renderer] writes the metrics of a set with the labels of a group and values.
//
// Values stand beside a set in a string of their own, in the order of its lines: each in its text form followed by a line feed. Before them
// stand the created timestamps and then the extras, if the set says that there are any.
//
// The package knows no groups, no HTTP and no store. Start reading at [Set].
package series
