package fileowner

import (
	"io/fs"
	"os"
	"path/filepath"
)

func openOnce(dir *os.File, name string, want func(fs.FileMode) error) (*os.File, error) {
	if dir != nil {
		name = filepath.Join(dir.Name(), name)
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if err := want(info.Mode()); err != nil {
		return nil, err
	}
	return os.Open(name)
}
