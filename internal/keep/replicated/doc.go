// Package replicated keeps the grouping store of relays that are one service, in an etcd that they share.
//
// One of them leads: it alone decides, applies and shows, and writes what comes of it, as the records that the store has of itself (C2). The others
// install records, and judge nothing. Etcd holds the truth and each relay a copy, so that joining, catching up and rebuilding are one thing: all is read
// at one revision, and what follows is watched.
//
// It promises that a change whose wait has returned nil is in the etcd of a majority, that no relay ever shows a change which is not, and that one that
// leads no longer, and does not know it, changes nothing: each transaction wants its leadership and the position that it follows (C4, C6).
//
// The goroutine in [Keep.Run] owns all that is said to be owned by Run. Start reading there.
package replicated
