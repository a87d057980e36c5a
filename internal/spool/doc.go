// Package spool is the agent's journal of pushes. What it has accepted is on the disk, and goes to each relay until that relay
// has decided it (T11-T19, T22).
//
// It promises: a push that [Spool.Apply] answered well reaches every configured relay, exactly once and in the order of its
// group, whatever is killed or restarted in between. The one exception is a push that a newer one of the group made pointless.
// Beyond that it keeps the newest content of each group, for relays that lost theirs. It never drops what it has accepted: when
// it is full it accepts nothing more.
//
// The journal is a package wal log of the messages of proto/storage/v1/spool.proto. In memory the spool holds the same, bodies compressed. It knows no tunnel: whoever has a
// session with a relay asks a [Feed] for changes and brings the verdicts back. It knows no HTTP: it is a push.Applier.
//
// A group is a list of changes, oldest first: at most one that replaces or deletes the group, then those that merge into it.
// Each change knows which relays have still to decide it. A change that all have decided stays as the group's content. One
// whose metric families were all pushed anew goes, once nobody waits for it and no relay may be deciding it. So the list is
// bounded by the newest text of each family (T15). What adds to families makes nothing pointless; neighbours of that kind are added up, where no relay
// can tell (L14). What a push declared of its group's life outlives its content: the next change says it where one goes, so that every relay hears of it, and one that lost its groups hears of all (L1).
//
// The parts, all of them under the one lock Spool.mu:
//
//	journal    the numbers of the changes, and the log that all goes into: its opening, its payloads, what is lost of it
//	door       what is refused before it is accepted, by what each relay said of its limits and, remembered, of itself
//	groups     the changes, their order and their size; who has still to decide what; compacting
//	slots      a cursor for each relay: how far it is, its queue, its sessions
//	cursors    which relay is which, as they come, move, go and turn out to be copies; new numbers for all changes
//	Feed       one session: what is under way in it, and what becomes of the verdicts
//	replay     a start: makes all of them of the payloads
//	frozen     a snapshot: what all of them are at one moment
//
// journal and door call none of the others, but that the door journals what it remembers; groups looks a cursor up in the slots, and asks the door about
// sums; cursors changes journal, groups and slots together. Their methods expect the lock, or say that they need none. [Spool] has the API, and does what
// goes through several of them: its own methods take the lock.
//
// The words: a push is accepted, a change is pending at a relay until it is
// resolved there, a verdict is what the relay says, and the relay has decided what it gave a final verdict on.
//
// Start reading at [Spool.Apply], then at [Feed], compact and addUp.
package spool
