// Package spool is the agent's journal of pushes: what was accepted is on the disk, and goes to each relay until that has
// decided it (T11-T19, T22).
//
// It promises that a push which [Spool.Push] answered well reaches every configured relay, exactly once and in the order of
// its group, whatever is killed or restarted in between, unless a newer push of the group made it pointless. It keeps the
// newest content of each group beyond that, for relays that lost theirs. It never drops what it took: when it is full it
// takes nothing more.
//
// The journal is a package wal log; in memory the spool holds the same, bodies compressed. It knows no tunnel: whoever has a
// session with a relay takes changes from a [Feed] and brings the verdicts back. It knows no HTTP: it is a push.Applier.
//
// A group is a list of changes, oldest first: at most one that replaces or deletes the group, then those that merge into it.
// Each change knows which relays have still to decide it. A change that all have decided stays as the group's content; one
// whose metric families were all pushed anew goes, once nobody waits for it and no relay may be deciding it. So the list is
// bounded by the newest text of each family (T15).
//
// Start reading at [Spool.Push], then at [Feed] and compact.
package spool
