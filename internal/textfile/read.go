package textfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"pushrelay/internal/exposition"
	"pushrelay/internal/fileowner"
)

const (
	// maxFiles bounds the text files of a directory.
	maxFiles = 1000
	// maxFileBytes bounds a file where the limits of pushes do not.
	maxFileBytes = 16 << 20
	// attempts is how often a file is read that changes meanwhile.
	attempts = 3
)

// errGone says that a file was removed.
var errGone = errors.New("file is gone")

// list returns the names of the text files of an open directory, sorted and without their suffix. odd is one that cannot be a
// label, if there is such a file.
func list(dir *os.File) (names []string, odd string, err error) {
	for {
		// In portions, because the directory may be full of other things.
		portion, err := dir.ReadDir(1024)
		for _, entry := range portion {
			switch name, ok := strings.CutSuffix(entry.Name(), suffix); {
			case !ok:
			case name == "" || !utf8.ValidString(name):
				odd = entry.Name()
			default:
				names = append(names, name)
			}
		}
		if errors.Is(err, io.EOF) {
			slices.Sort(names)
			return names, odd, nil
		}
		if err != nil {
			return nil, "", err
		}
	}
}

// readWhole returns one whole version of a file of a directory, and what was known of it then. It follows symbolic links, as
// node_exporter does, but only those of root and of the file's owner: whoever may write into the directory must not have this
// program read what they may not. The error is errGone if there is no such file; a link that leads nowhere is one.
func readWhole(dir *os.File, path string, limit int64) (content []byte, info fs.FileInfo, err error) {
	for range attempts {
		content, info, err = readOnce(dir, filepath.Base(path), limit)
		if !errors.Is(err, errChanged) {
			break
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		if _, lerr := os.Lstat(path); errors.Is(lerr, fs.ErrNotExist) {
			return nil, nil, errGone
		}
	}
	return content, info, err
}

// errChanged says that somebody writes to the file itself, instead of renaming a whole one to its name.
var errChanged = errors.New("file changed while it was read: write to another name and rename")

// readOnce reads what one descriptor shows. A file that another one takes the place of meanwhile is still the one that was
// opened.
func readOnce(dir *os.File, name string, limit int64) (content []byte, info fs.FileInfo, err error) {
	f, err := fileowner.OpenIn(dir, name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close() //nolint:errcheck // It was only read.
	if info, err = f.Stat(); err != nil {
		return nil, nil, err
	}
	if info.Size() > limit {
		return nil, info, fmt.Errorf("is larger than %d bytes", limit)
	}
	content = make([]byte, 0, info.Size()+extra)
	for len(content) < cap(content) {
		n, err := f.Read(content[len(content):cap(content)])
		content = content[:len(content)+n]
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, info, err
		}
	}
	after, err := f.Stat()
	if err != nil {
		return nil, info, err
	}
	if int64(len(content)) != info.Size() || !sameContent(info, after) {
		return nil, info, errChanged
	}
	return content, info, nil
}

// extra is room behind the content for the lines that are added.
const extra = 512

// sameContent says whether a file seems to hold what it held before.
func sameContent(before, after fs.FileInfo) bool {
	return os.SameFile(before, after) && before.Size() == after.Size() && before.ModTime().Equal(after.ModTime())
}

// limitOf returns how large a file may be.
func limitOf(l exposition.Limits) int64 {
	limit := int64(maxFileBytes)
	for _, other := range []int64{l.MaxBodyBytes, l.MaxDecompressedBytes} {
		if other > 0 {
			limit = min(limit, other)
		}
	}
	return limit
}

// mtimeFamily is the metric that each group has beside the file's own, under the name that alerts on text files look for.
const mtimeFamily = "node_textfile_mtime_seconds"

// appendMtime appends the lines that tell when the file was modified. The content is whole: its last line is ended.
func appendMtime(body []byte, path string, info fs.FileInfo) []byte {
	body = append(body, "# HELP "+mtimeFamily+" When the text file was last modified, in seconds since the epoch.\n"...)
	body = append(body, "# TYPE "+mtimeFamily+" gauge\n"+mtimeFamily+`{file="`...)
	body = exposition.AppendEscapedLabelValue(body, path)
	body = append(body, `"} `...)
	body = exposition.AppendFloat(body, seconds(info.ModTime()))
	return append(body, '\n')
}
