package ledger

import (
	"bytes"
	"os"
	"time"

	"pushrelay/internal/datadir"
)

// BreakFile makes the next write fail.
func (l *Ledger) BreakFile() {
	l.writing.Lock()
	defer l.writing.Unlock()
	f := l.journal.(*fileJournal)
	f.file.Close()
	f.file, _ = os.Open(os.DevNull)
}

// Reseal gives each line its checksum, so that fuzzing gets behind those.
func Reseal(raw []byte) []byte {
	var out []byte
	sum := uint32(0)
	for line := range bytes.Lines(raw) {
		content, ended := bytes.CutSuffix(line, []byte("\n"))
		if !ended || len(content) <= sumBytes {
			out = append(out, line...)
			continue
		}
		content = content[:len(content)-sumBytes]
		sum = chain(sum, content)
		out = append(append(append(out, content...), sumText(sum)...), '\n')
	}
	return out
}

// ReadTwice reads a file, writes what it says, and reads that.
func ReadTwice(raw []byte) (first, second *State, err error) {
	c, err := decode(raw)
	if err != nil {
		return nil, nil, err
	}
	text, _, err := encode(datadir.Head{Version: FormatVersion}, c.records)
	if err != nil {
		return nil, nil, err
	}
	again, err := decode(text)
	if err != nil {
		panic(err) // what we write ourselves
	}
	return c.state(), again.state(), nil
}

// Join is what becomes of the ledger of a data dir by that of a backup.
func Join(own, backup *State, now time.Time) (*State, error) { return join(own, backup, now) }
