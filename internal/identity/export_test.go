package identity

import (
	"errors"
	"os"
)

// ErrEnded is what a disk answers after the end.
var ErrEnded = errors.New("the agent has ended")

// Ending returns the store on a disk that does the given number of changes. In the next one it ends: a file is left half written beside its place, a
// directory half removed, and nothing is done any more. With fails it fails only that one, as a full disk does. Ended says that it came to that.
func (s Store) Ending(changes int, fails bool) (_ Store, ended func() bool) {
	d := &endingDisk{left: changes, fails: fails}
	s.disk = d
	return s, func() bool { return d.ended }
}

type endingDisk struct {
	osDisk
	left  int
	fails bool
	ended bool
}

// do reports whether a change is made, and whether it is the one in which the end comes.
func (d *endingDisk) do() (made, last bool) {
	if d.ended {
		return d.fails, false
	}
	if d.left == 0 {
		d.ended = true
		return false, true
	}
	d.left--
	return true, false
}

func (d *endingDisk) replace(file string, content []byte) error {
	made, last := d.do()
	if made {
		return d.osDisk.replace(file, content)
	}
	if last {
		os.WriteFile(file+".tmp", content[:len(content)/2], 0o600)
	}
	return ErrEnded
}

func (d *endingDisk) rename(from, to string) error {
	if made, _ := d.do(); made {
		return d.osDisk.rename(from, to)
	}
	return ErrEnded
}

func (d *endingDisk) makeTemp(in string) (string, error) {
	if made, _ := d.do(); made {
		return d.osDisk.makeTemp(in)
	}
	return "", ErrEnded
}

func (d *endingDisk) removeAll(path string) error {
	made, last := d.do()
	if made {
		return d.osDisk.removeAll(path)
	}
	if entries, err := os.ReadDir(path); last && err == nil && len(entries) > 0 {
		os.RemoveAll(path + "/" + entries[0].Name())
	}
	return ErrEnded
}

// DecodeRelays is decodeRelays, and what it reads written again.
func DecodeRelays(text []byte) (relays []string, err error) {
	read, err := decodeRelays(text)
	return read.Relays, err
}
