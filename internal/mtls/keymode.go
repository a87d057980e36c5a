package mtls

import (
	"io/fs"
	"os"
	"runtime"
)

// ExposedKey says whether others than its owner may read the file of a key, and returns its mode. On Windows, where a mode says
// nothing about that, nobody may.
func ExposedKey(file string) (mode fs.FileMode, exposed bool) {
	stat, err := os.Stat(file)
	if err != nil || runtime.GOOS == "windows" {
		return 0, false
	}
	return stat.Mode().Perm(), stat.Mode().Perm()&0o077 != 0
}
