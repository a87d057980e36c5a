//go:build unix

package fileowner

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many links are followed on one way, as Linux does.
const maxLinks = 40

// A walk goes from directory to directory, each opened in the one before: nothing is looked up by a path that others can change
// between two steps.
type walk struct {
	at    int      // the open directory
	path  string   // its path, for people
	rest  []string // the elements that are left
	links []link   // those that were followed
}

type link struct {
	path  string
	owner uint32
}

// openOnce goes the way by hand, and opens what is at its end if want agrees and the links are to be followed.
func openOnce(dir *os.File, name string, want func(fs.FileMode) error) (*os.File, error) {
	w := &walk{at: -1, rest: elements(name)}
	defer func() { unix.Close(w.at) }() //nolint:errcheck // It was only read.
	begin := "."
	if path.IsAbs(name) {
		begin = "/"
	}
	if dir != nil && begin == "." {
		w.path = dir.Name()
		if err := w.enter(int(dir.Fd()), "."); err != nil {
			return nil, err
		}
	} else if err := w.enter(unix.AT_FDCWD, begin); err != nil {
		return nil, err
	}
	for {
		switch {
		case len(w.rest) == 0: // it ends at a directory, by "/" or ".."
			w.rest = []string{"."}
		case len(w.rest) > 1 || w.rest[0] == "..":
			if err := w.step(); err != nil {
				return nil, err
			}
		default:
			if f, err := w.end(want); f != nil || err != nil {
				return f, err
			}
		}
	}
}

// elements returns the elements of a path that lead somewhere.
func elements(name string) []string {
	return slices.DeleteFunc(strings.Split(name, "/"), func(e string) bool { return e == "" || e == "." })
}

// enter goes to a directory in another one.
func (w *walk) enter(in int, name string) error {
	fd, err := openat(in, name, searchFlags|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	if w.at >= 0 {
		unix.Close(w.at) //nolint:errcheck // It was only read.
	}
	w.at, w.path = fd, path.Join(w.path, name)
	return nil
}

func openat(in int, name string, flags int) (fd int, err error) {
	for {
		fd, err = unix.Openat(in, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// step goes one element on, none of the last ones.
func (w *walk) step() error {
	name := w.rest[0]
	if name == ".." {
		w.rest = w.rest[1:]
		return w.enter(w.at, name)
	}
	found, err := w.look(name)
	if err != nil {
		return err
	}
	if isLink(found) {
		return w.follow(name, found)
	}
	w.rest = w.rest[1:]
	if err := w.enter(w.at, name); err != nil {
		return exchanged(err)
	}
	var entered unix.Stat_t
	if err := unix.Fstat(w.at, &entered); err != nil {
		return err
	}
	return same(found, &entered)
}

// end opens what the last element names; nil if that is a link, which was followed.
func (w *walk) end(want func(fs.FileMode) error) (*os.File, error) {
	name := w.rest[0]
	found, err := w.look(name)
	if err != nil {
		return nil, err
	}
	if isLink(found) {
		return nil, w.follow(name, found)
	}
	if err := w.judge(found.Uid); err != nil {
		return nil, err
	}
	if err := want(modeOf(found)); err != nil {
		return nil, err
	}
	// A pipe that takes its place right now is opened at once, although nobody writes to it.
	fd, err := openat(w.at, name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, exchanged(err)
	}
	var opened unix.Stat_t
	if err = unix.Fstat(fd, &opened); err == nil {
		err = same(found, &opened)
	}
	if err != nil {
		unix.Close(fd) //nolint:errcheck // It was only opened.
		return nil, err
	}
	return os.NewFile(uintptr(fd), path.Join(w.path, name)), nil
}

// look asks what an element is, and follows nothing.
func (w *walk) look(name string) (*unix.Stat_t, error) {
	var found unix.Stat_t
	for {
		err := unix.Fstatat(w.at, name, &found, unix.AT_SYMLINK_NOFOLLOW)
		if !errors.Is(err, unix.EINTR) {
			return &found, err
		}
	}
}

// follow puts what a link says in the place of its name.
func (w *walk) follow(name string, found *unix.Stat_t) error {
	if len(w.links) == maxLinks {
		return unix.ELOOP
	}
	var text [unix.PathMax]byte
	n, err := unix.Readlinkat(w.at, name, text[:])
	if err != nil {
		return exchanged(err)
	}
	// The owner is that of the link which was read: one that was moved away and back meanwhile has another time of change.
	again, err := w.look(name)
	if err != nil {
		return exchanged(err)
	}
	if err := same(found, again); err != nil || found.Ctim != again.Ctim {
		return errExchanged
	}
	w.links = append(w.links, link{path: path.Join(w.path, name), owner: found.Uid})
	leads := string(text[:n])
	w.rest = append(elements(leads), w.rest[1:]...)
	if path.IsAbs(leads) {
		return w.enter(unix.AT_FDCWD, "/")
	}
	return nil
}

// judge refuses what the links lead to if one of them is neither root's nor that owner's.
func (w *walk) judge(owner uint32) error {
	for _, l := range w.links {
		if l.owner != 0 && (l.owner != owner || isUnknown(owner)) {
			return &LinkError{Link: l.path, LinkOwner: userOf(l.owner), FileOwner: userOf(owner)}
		}
	}
	return nil
}

func isLink(s *unix.Stat_t) bool { return s.Mode&unix.S_IFMT == unix.S_IFLNK }

func same(a, b *unix.Stat_t) error {
	if a.Dev != b.Dev || a.Ino != b.Ino {
		return errExchanged
	}
	return nil
}

// exchanged explains an error that opening what was just there can only have if it is not any more.
func exchanged(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EINVAL) {
		return errExchanged
	}
	return err
}

// modeOf returns the type of a file; which permissions it has does not matter here.
func modeOf(s *unix.Stat_t) fs.FileMode {
	switch s.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return 0
	case unix.S_IFDIR:
		return fs.ModeDir
	default:
		return fs.ModeIrregular
	}
}
