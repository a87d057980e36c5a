package wal

import (
	"errors"
	"fmt"
	"strings"
)

// The errors that a caller tells apart; they are wrapped with what they are about.
var (
	// ErrClosed means that the log was closed.
	ErrClosed = errors.New("the log is closed")
	// ErrTooLarge means that a payload is larger than [Config].MaxPayloadBytes. Nothing of it is in the log.
	ErrTooLarge = errors.New("too large for the log")
	// ErrQueueFull means that more waits for the disk than [Config].MaxQueuedBytes. Nothing was accepted; later it may be.
	ErrQueueFull = errors.New("the disk cannot keep up with the log")
	// ErrUnwritable means that an earlier write failed (S20). Nothing was accepted, and nothing will be until [Log.Resume] has
	// returned nil, or a snapshot that is begun after the failure is committed.
	ErrUnwritable = errors.New("the log cannot be written")
	// ErrInDoubt means that a payload was accepted and its write failed: it may or may not be there after a restart, until the log
	// can be written again. Then it is there.
	ErrInDoubt = errors.New("in doubt: the log could not be written")
	// ErrSnapshotRunning means that another snapshot of the log has neither been committed nor aborted, or that the log is just
	// resuming.
	ErrSnapshotRunning = errors.New("another snapshot is being written")
	// ErrIncomplete means that only a snapshot makes a log writable again: not all of what it lacks is in memory.
	ErrIncomplete = errors.New("what the log lacks is not all in memory: it needs a snapshot")
	// ErrNoLocks means that the file system of the directory knows no locks; see [Config].NoLock.
	ErrNoLocks = errors.New("the file system has no file locks")
)

// DamagedError means that the log holds something that no crash explains, or lacks something. Nothing was changed; see
// [Repair].
type DamagedError struct {
	// File is the path of the damaged file; it may be one that is missing.
	File string
	// Offset is where the damage begins, in bytes.
	Offset int64
	// Reason says what is wrong.
	Reason string
	// Follows says what comes after it and shows that it is no torn tail; it may be empty.
	Follows string
}

// Error returns the place and what is wrong there.
func (e *DamagedError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the log is damaged: %q at offset %d: %s", e.File, e.Offset, e.Reason)
	if e.Follows != "" {
		b.WriteString(", but " + e.Follows)
	}
	return b.String()
}

// VersionError means that a file was written in a format that is not known here, by a newer release. It was left as it is.
type VersionError struct {
	// File is the path of the file.
	File string
	// Version is that of its format, Known the highest that is known here.
	Version, Known uint32
	// Release is that of the program which wrote the log last; empty if it is not known.
	Release string
}

// Error returns file, version and release.
func (e *VersionError) Error() string {
	by := "a newer release"
	if e.Release != "" {
		by += ", " + e.Release
	}
	return fmt.Sprintf("%q was written by %s: it has version %d of the format, and only %d is known", e.File, by, e.Version, e.Known)
}

// LockedError means that the log has an owner already (S21).
type LockedError struct {
	// Path is that of the lock file.
	Path string
	// PID is the owner's process id, 0 if unknown. It is a number of the owner's namespace.
	PID int
}

// Error names the file and the owner.
func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("%q is locked by another process", e.Path)
	}
	return fmt.Sprintf("%q is locked by process %d", e.Path, e.PID)
}
