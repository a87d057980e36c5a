//go:build unix

package fileowner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

func exposed(path string, why purpose) *Exposure {
	trusted := trustedUsers(why)
	path, err := filepath.Abs(path)
	if err != nil {
		return nil
	}
	resolved := realPath(path)
	if e := judgeWay(resolved, why, trusted); e != nil || resolved == path {
		return e
	}
	// Whoever may write where a link is can put another one there.
	return judgeWay(filepath.Dir(path), output, trusted)
}

// realPath resolves the links of what is there of a path.
func realPath(path string) string {
	resolved, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) && path != filepath.Dir(path) {
		return filepath.Join(realPath(filepath.Dir(path)), filepath.Base(path))
	}
	if err != nil {
		return path
	}
	return resolved
}

// trustedUsers are root, the user of this process and, where something is to be written for people, the one who became root.
func trustedUsers(why purpose) []uint32 {
	users := []uint32{0, uint32(os.Geteuid())}
	if why == output && os.Geteuid() == 0 {
		if id, err := strconv.ParseUint(os.Getenv("SUDO_UID"), 10, 32); err == nil {
			users = append(users, uint32(id))
		}
	}
	return users
}

// judgeWay judges something and all directories above it.
func judgeWay(path string, why purpose, trusted []uint32) *Exposure {
	for at := path; ; at = filepath.Dir(at) {
		if found, err := os.Stat(at); err == nil {
			if e := judge(at, found, why == output || at != path, trusted); e != nil {
				return e
			}
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

// judge judges one of them. In a directory above it nobody can take away what is another's, if it has the sticky bit.
func judge(path string, found fs.FileInfo, above bool, trusted []uint32) *Exposure {
	stat, ok := found.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	mode := found.Mode()
	kept := above && mode&fs.ModeSticky != 0
	switch {
	case !slices.Contains(trusted, stat.Uid) && stat.Uid != 0:
		return &Exposure{Path: path, Who: userOf(stat.Uid) + ", who owns it,"}
	case mode&0o002 != 0 && !kept:
		return &Exposure{Path: path, Who: "everybody"}
	case mode&0o020 != 0 && !kept && !isPrivate(stat):
		return &Exposure{Path: path, Who: groupOf(stat.Gid), Group: true}
	default:
		return nil
	}
}

// isPrivate says that a group is root's, or that of one user, who has its number: so Linux systems make users.
func isPrivate(stat *syscall.Stat_t) bool { return stat.Gid == 0 || stat.Gid == stat.Uid }

func groupOf(id uint32) string {
	name := strconv.FormatUint(uint64(id), 10)
	if g, err := user.LookupGroupId(name); err == nil {
		return fmt.Sprintf("group %s (%s)", name, g.Name)
	}
	return "group " + name
}
