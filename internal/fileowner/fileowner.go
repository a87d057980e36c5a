// Package fileowner tells whose files are, where that decides whether they are to be believed.
//
// Whoever may write into a directory can put a link there that leads to a file which only this program may read, and see in a
// metric, a status or a log what is in it. So [Open] and its siblings follow a link only if root made it or if link and file
// have one owner, wherever on the way the link is and whatever is exchanged meanwhile. And whoever may write to a key, a
// configuration or a directory of ours decides what this program does: [Exposed] says who that is.
//
// It knows owners and modes and nothing of what is in the files. On Windows, where only administrators make links and a mode says
// nothing about who may write, every link is followed and nothing is exposed. Start reading at [OpenIn], then at [Exposed].
package fileowner

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ErrIsDirectory and ErrNotRegular say why a file is not opened: a device may do something when it is opened, and a pipe is never
// at its end.
var (
	ErrIsDirectory = errors.New("is a directory")
	ErrNotRegular  = errors.New("is no regular file")
)

// errExchanged says that something took another one's place while it was opened. It is tried again.
var errExchanged = errors.New("is exchanged again and again while it is opened")

// attempts is how often something is opened that is exchanged meanwhile.
const attempts = 10

// A LinkError says that a link was not followed, because somebody else than root or the owner of the file made it.
type LinkError struct {
	// Link is the path of the link.
	Link string
	// LinkOwner and FileOwner are the users, in words.
	LinkOwner, FileOwner string
}

// Error says what to do about it.
func (e *LinkError) Error() string {
	return fmt.Sprintf("the link %q is not followed: %s made it, and what it leads to belongs to %s. A link is followed if root made it, or the owner of what it"+
		" leads to: have one of them make it, or put a copy in its place", e.Link, e.LinkOwner, e.FileOwner)
}

// ReadFile reads a regular file, as [OpenIn] opens it.
func ReadFile(path string) ([]byte, error) {
	f, err := OpenIn(nil, path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // It was only read.
	return io.ReadAll(f)
}

// OpenIn opens a regular file for reading: that of a name in an open directory, or of a path if the directory is nil. A link is
// followed if root made it or if it has the owner of the file, and is a [*LinkError] otherwise; that goes for each link on the
// way from the directory on.
func OpenIn(dir *os.File, name string) (*os.File, error) {
	return open(dir, name, func(mode fs.FileMode) error {
		switch {
		case mode.IsDir():
			return ErrIsDirectory
		case !mode.IsRegular():
			return ErrNotRegular
		default:
			return nil
		}
	})
}

// OpenDir opens a directory for reading, with links as in [OpenIn].
func OpenDir(path string) (*os.File, error) {
	return open(nil, path, func(mode fs.FileMode) error {
		if !mode.IsDir() {
			return errors.New("is no directory")
		}
		return nil
	})
}

// errThere says that something is there and its links are to be followed.
var errThere = errors.New("is there")

// CheckLinks says what is wrong with the way to a file or a directory: a link on it that somebody else than root or the owner of
// what it leads to has made, as a [*LinkError]. It opens nothing. Of what is not there it judges what is there of the way.
func CheckLinks(path string) error {
	_, err := open(nil, path, func(fs.FileMode) error { return errThere })
	if parent := filepath.Dir(path); errors.Is(err, fs.ErrNotExist) && parent != path {
		return CheckLinks(parent)
	}
	if _, ok := errors.AsType[*LinkError](err); ok {
		return err
	}
	return nil // whoever uses it says what else is wrong
}

func open(dir *os.File, name string, want func(fs.FileMode) error) (f *os.File, err error) {
	for range attempts {
		if f, err = openOnce(dir, name, want); !errors.Is(err, errExchanged) {
			break
		}
	}
	if errno, ok := err.(syscall.Errno); ok { //nolint:errorlint // Only what is not wrapped yet.
		err = &fs.PathError{Op: "open", Path: name, Err: errno}
	}
	return f, err
}

// Adopt gives what this process just created to the owner of the directory that it is in, if this process is root and the owner is not: a command
// that root runs beside a program must leave no files that the program's user cannot read.
func Adopt(created *os.File, dir string) error { return adopt(created, dir) }

// AdoptDir is [Adopt] for a directory that this process just created. It opens no link that took its place.
func AdoptDir(created string) error { return adoptDir(created) }
