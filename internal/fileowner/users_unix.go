//go:build unix

package fileowner

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"sync"
)

// userOf names a user for people.
func userOf(id uint32) string {
	if isUnknown(id) {
		return "a user that cannot be told from others here (PrivateUsers= of systemd, or a container)"
	}
	if id == 0 {
		return "root"
	}
	if u, err := user.LookupId(strconv.FormatUint(uint64(id), 10)); err == nil {
		return fmt.Sprintf("user %d (%s)", id, u.Username)
	}
	return fmt.Sprintf("user %d", id)
}

// isUnknown says that a user is shown for all whom a namespace does not know, so that two files of it may be of two users.
func isUnknown(id uint32) bool { return namespace().hides && id == namespace().hidden }

type userNamespace struct {
	hides  bool
	hidden uint32 // the user who stands for those who are hidden
}

// namespace is that of this process. Only Linux has them, and shows them in /proc.
var namespace = sync.OnceValue(func() userNamespace {
	users, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return userNamespace{}
	}
	text, err := os.ReadFile("/proc/sys/kernel/overflowuid")
	hidden, parseErr := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	if err != nil || parseErr != nil {
		hidden = 65534
	}
	return userNamespace{hides: !mapsAll(string(users)), hidden: uint32(hidden)}
})

// mapsAll says whether a namespace knows all users: its map has one line, from the first on as many as there are.
func mapsAll(uidMap string) bool {
	fields := strings.Fields(uidMap)
	return len(fields) == 3 && fields[0] == "0" && fields[2] == "4294967295"
}
