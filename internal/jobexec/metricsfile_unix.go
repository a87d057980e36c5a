//go:build unix

package jobexec

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// tempPlaces are where a file for the metrics may be: in $TMPDIR, and where every system has something. Those that every user can
// get at come first: a command may change its user, and $TMPDIR is often for one user only.
func tempPlaces() []string {
	places := []string{os.TempDir(), "/tmp", "/var/tmp", "/dev/shm"}
	reachable := slices.DeleteFunc(slices.Clone(places), func(dir string) bool { return !isReachable(dir) })
	return append(reachable, places...)
}

// isReachable says whether every user may pass through to the directory.
func isReachable(dir string) bool {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return false
	}
	for {
		found, err := os.Stat(dir)
		if err != nil || found.Mode().Perm()&0o001 == 0 {
			return false
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true
		}
		dir = parent
	}
}

// lockDir locks a directory until the file that it returns is closed, by the end of the process too. It returns nil where that is
// not possible.
func lockDir(dir string) *os.File {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close() //nolint:errcheck // It was only opened.
		return nil
	}
	return f
}

// isAbandoned says whether the directory is this user's, and no job's that lives.
func isAbandoned(dir string, found fs.FileInfo) bool {
	if owner, ok := found.Sys().(*syscall.Stat_t); !ok || int(owner.Uid) != os.Geteuid() {
		return false
	}
	lock := lockDir(dir)
	if lock == nil {
		return false
	}
	lock.Close() //nolint:errcheck // It was only locked.
	return true
}
