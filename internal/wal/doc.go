// Package wal is an append-only log with group commit and snapshots, which the relay's store and the agent's spool keep
// what they acknowledge in.
//
// It promises that a payload whose wait has returned nil is there after a kill or a power cut, in the order of the calls of
// Append, and that nothing comes out that was not put in. What a crash left unfinished at the end is cut off and saved
// aside; damage anywhere else is an error that names file and offset, never a silent loss (S18-S22). It does not know what
// a payload means, it logs nothing, and its one goroutine is started by [Open] and waited for by [Log.Close].
//
// # Files
//
// All are in one directory, numbered by one rising count, and never written again under another number:
//
//	lock                           held by the owner for life, with its process id
//	manifest                       which of the files belong to the log; see [manifest]
//	acknowledged                   which losses were acknowledged; see [Acknowledge]
//	repairing                      a repair was begun, and why
//	0000000000000007.log           a segment: batches of payloads
//	0000000000000007.snapshot      everything before segment 7; older files are obsolete
//	….log.tail-4096                bytes that were cut off at that offset of a segment
//	….damaged                      what [Repair], or Open after falling back to an older snapshot, set aside
//	….tmp, ….repaired, ….moved     unfinished
//
// Segments and snapshots begin with a header, in little endian: magic (8 bytes), version (4), CRC32C of these 12 (4), the
// file's number (8), the first batch's number (8), a random salt (8), flags (4), CRC32C of everything before (4). The first
// 16 bytes are the same in every version, so that an unknown one is recognised and left alone.
//
// Batches follow, each with a header: salt (8), the file's number (8), the batch's number (8), kind (4), number of
// payloads (4), length of the body (4), CRC32C of header and body, seeded with the salt (4). The body of ordinary batches is
// length (4) and bytes of each payload. The salt is why bytes inside a payload, or of another segment, are never taken for
// a batch: nobody who writes payloads knows it.
//
// # Why it holds
//
// Batch n+1 is written after the sync of batch n has returned, and a segment is made after everything before it is durable,
// with the number of its first batch in its header. So a crash can leave at most one batch unfinished, the very last; bytes
// that are no batch are a tail exactly if no batch of a higher number, no segment that begins with one, and no end that the
// manifest tells of follows. It was not acknowledged if a part of it was never written; else nobody knows (reader.unfinished).
// A segment comes into being whole, by a rename, and is never recycled, so old batches do not show up behind new ones.
// A write that fails leaves its batch, and what waits behind it, in doubt. [Log.Resume] first removes from the disk what the failed
// write may have left, and then writes all of it again in a segment of its own, so that the same holds there.
//
// Segments are filled ahead, because a sync that need not record a new length is a third faster; and with a [pattern], so that
// what was never written is told from what is lost.
//
// Start reading at [Log], then at Log.commit for writing and at [Open] and walk for reading.
package wal
