package waltest

import (
	"bytes"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

const (
	places      = 40
	sectorBytes = 512
)

// kinds are what may become of the bytes of a file at a place.
var kinds = []struct {
	name    string
	inflict func(random *rand.Rand, b []byte, at int) []byte
}{
	{"a bit", func(random *rand.Rand, b []byte, at int) []byte { b[at] ^= 1 << random.IntN(8); return b }},
	{"zeros", func(_ *rand.Rand, b []byte, at int) []byte { clear(sector(b, at)); return b }},
	{"garbage", func(random *rand.Rand, b []byte, at int) []byte {
		for i := range sector(b, at) {
			sector(b, at)[i] = byte(random.Uint32())
		}
		return b
	}},
	{"truncated", func(_ *rand.Rand, b []byte, at int) []byte { return b[:at] }},
	{"appended", func(_ *rand.Rand, b []byte, at int) []byte { return append(b, bytes.Clone(b[at:])...) }},
}

func sector(b []byte, at int) []byte {
	begin := at - at%sectorBytes
	return b[begin:min(len(b), begin+sectorBytes)]
}

// Damages yields what may become of the files of a log, with words for it: a bit at each of forty places of every file, and
// at each something else as well; files that are missing, empty, exchanged, copied over each other, or those of another log.
func Damages(random *rand.Rand, files, foreign map[string][]byte) iter.Seq2[string, map[string][]byte] {
	return func(yield func(string, map[string][]byte) bool) {
		for _, name := range slices.Sorted(maps.Keys(files)) {
			for damage, content := range ofFile(random, files[name], foreign[name]) {
				damaged := maps.Clone(files)
				if damaged[name] = content; content == nil {
					delete(damaged, name)
				}
				if !yield(name+": "+damage, damaged) {
					return
				}
			}
		}
		for damage, damaged := range ofNames(files) {
			if !yield(damage, damaged) {
				return
			}
		}
	}
}

// ofFile yields what may become of one file; nil if it is missing.
func ofFile(random *rand.Rand, content, foreign []byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for place := range places {
			at := random.IntN(len(content))
			for i, kind := range kinds {
				if i > 0 && place%(len(kinds)-1) != i-1 {
					continue
				}
				if !yield(fmt.Sprintf("%s at %d", kind.name, at), kind.inflict(random, bytes.Clone(content), at)) {
					return
				}
			}
		}
		_ = yield("missing", nil) && yield("empty", []byte{}) && yield("another log's", foreign)
	}
}

// ofNames yields files under each other's names, and files that are missing together.
func ofNames(files map[string][]byte) iter.Seq2[string, map[string][]byte] {
	return func(yield func(string, map[string][]byte) bool) {
		for name, content := range files {
			for other := range files {
				copied, swapped := maps.Clone(files), maps.Clone(files)
				copied[other] = content
				swapped[name], swapped[other] = files[other], content
				if name != other && (!yield("a copy of "+name+" as "+other, copied) || name < other && !yield(name+" and "+other+" exchanged", swapped)) {
					return
				}
			}
		}
		for _, suffix := range []string{".log", ".snapshot", "t"} {
			damaged := maps.Clone(files)
			maps.DeleteFunc(damaged, func(name string, _ []byte) bool { return strings.HasSuffix(name, suffix) })
			if len(damaged) > 0 && len(damaged) < len(files) && !yield("all *"+suffix+" missing", damaged) {
				return
			}
		}
	}
}
