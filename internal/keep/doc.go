// Package keep keeps the grouping store. In memory nothing outlives the process. On the disk what the store decides goes into an append-only log,
// the whole store into a snapshot now and then, and at the start both make the store again.
//
// Of the disk it promises that a change whose wait has returned nil is there after a kill or a power cut, that what was torn or damaged
// is told and never taken for something else, and that a relay whose disk fails keeps serving what it has and takes
// changes again by itself once the disk does (S18-S21). It knows neither HTTP nor agents nor what a change means: records
// are the store's, bytes on the disk are those of the log. Start reading at [Keep], then at [Disk.Recover] and [Disk.Append].
package keep
