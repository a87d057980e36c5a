package wal

import "io"

// StreamSnapshot begins a snapshot that belongs to no log, as [CreateSnapshot] does, and is written to w as it is added. Committed it is the
// content of such a file, for [ReadSnapshot]; without that it is none, as whoever reads it notices.
func StreamSnapshot(w io.Writer) (*SnapshotWriter, error) {
	s := &SnapshotWriter{fs: stream{}, file: streamFile{w}}
	s.head, s.offset = newHeader(snapshotMagic, 0, 1, 0), headerBytes
	_, err := w.Write(s.head.encode())
	return s, err
}

// stream is a file system without names.
type stream struct{ FS }

func (stream) Rename(string, string) error { return nil }
func (stream) Remove(string) error         { return nil }
func (stream) SyncDir(string) error        { return nil }

// streamFile takes what is written at its end, as a snapshot is.
type streamFile struct{ w io.Writer }

func (f streamFile) WriteAt(p []byte, _ int64) (int, error) { return f.w.Write(p) }
func (streamFile) Sync() error                              { return nil }
func (streamFile) Close() error                             { return nil }

// The rest is for those who read.

func (streamFile) ReadAt([]byte, int64) (int, error) { return 0, io.EOF }
func (streamFile) Size() (int64, error)              { return 0, nil }
func (streamFile) Truncate(int64) error              { return nil }
