package wal

import (
	"cmp"
	"errors"
	"time"
)

// The defaults of [Config], and what is fixed.
const (
	defaultMaxPayloadBytes = 64 << 20
	defaultMaxQueuedBytes  = 128 << 20
	defaultSegmentBytes    = 64 << 20
	defaultSnapshotFloor   = 64 << 20

	// batchBytes is where a batch that waits is full. A larger one would not be faster, but would take longer to be durable.
	batchBytes = 4 << 20
	// growBytes is how far a segment is filled with zeros ahead. Writing them costs about as much as 20 syncs, so that it
	// pays from 20 batches on; more at once would be felt as a pause.
	growBytes = 1 << 20
	// keptBufferBytes is the largest buffer that is kept for another batch, and keptBuffers how many are: for one batch on
	// its way to the disk and one that fills meanwhile.
	keptBufferBytes = 1 << 20
	keptBuffers     = 2
	// leastSegmentCost is what a segment counts at least towards the next snapshot, so that a thousand restarts do not
	// leave a thousand files.
	leastSegmentCost = 256 << 10
	// maxBodyBytes is what the length of a batch can express.
	maxBodyBytes = 1<<32 - 1
)

// Config says where a log is and how it is kept.
type Config struct {
	// Dir is the directory of the log and of nothing else. It is created if it is missing.
	Dir string
	// MaxPayloadBytes is the largest payload that is accepted; 0 means 64 MiB. Larger ones that are in the log already are
	// read all the same.
	MaxPayloadBytes int
	// MaxQueuedBytes bounds the memory of what was appended and is not durable; 0 means 128 MiB. One payload is accepted
	// however large, if nothing else waits.
	MaxQueuedBytes int
	// SegmentBytes is where the next segment begins; 0 means 64 MiB.
	SegmentBytes int64
	// SnapshotFloorBytes is the size of the log below which no snapshot is worth it; 0 means 64 MiB.
	SnapshotFloorBytes int64
	// Release is the program's, for whoever finds the log and is older; it may be empty.
	Release string
	// NoLock does without the lock, for file systems that have none. Then two owners destroy each other's log, and nobody
	// notices.
	NoLock bool
	// FS is the file system; nil means that of the operating system.
	FS FS
	// ObserveSync is called after every sync of a batch with how long it took; nil is allowed. It must not block.
	ObserveSync func(time.Duration)
	// Progress is called now and then while the log is read, with the bytes read and a total that is never less; nil is
	// allowed. It must not block.
	Progress func(done, total int64)
}

func (c Config) withDefaults() (Config, error) {
	if c.Dir == "" {
		return c, errors.New("the directory of the log has no name")
	}
	if c.MaxPayloadBytes < 0 || c.MaxQueuedBytes < 0 || c.SegmentBytes < 0 || c.SnapshotFloorBytes < 0 {
		return c, errors.New("a size of the log is negative")
	}
	c.MaxPayloadBytes = cmp.Or(c.MaxPayloadBytes, defaultMaxPayloadBytes)
	if int64(c.MaxPayloadBytes) > maxBodyBytes-lengthBytes {
		return c, errors.New("the largest payload of the log is above 4 GiB")
	}
	c.MaxQueuedBytes = cmp.Or(c.MaxQueuedBytes, defaultMaxQueuedBytes)
	c.SegmentBytes = cmp.Or(c.SegmentBytes, defaultSegmentBytes)
	c.SnapshotFloorBytes = cmp.Or(c.SnapshotFloorBytes, defaultSnapshotFloor)
	if c.FS == nil {
		c.FS = osFS{}
	}
	if c.ObserveSync == nil {
		c.ObserveSync = func(time.Duration) {}
	}
	if c.Progress == nil {
		c.Progress = func(int64, int64) {}
	}
	return c, nil
}
