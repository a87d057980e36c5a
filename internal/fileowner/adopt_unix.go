//go:build unix

package fileowner

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

func adopt(created *os.File, dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	stat, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("finding the owner of %q: %w", dir, err)
	}
	owner, ok := stat.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		return nil
	}
	if err := created.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
		return fmt.Errorf("giving %q to the owner of %q: %w", created.Name(), dir, err)
	}
	return nil
}

func adoptDir(created string) error {
	f, err := os.OpenFile(created, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // Nothing was written.
	return adopt(f, filepath.Dir(created))
}
