// Package history tells a store that was put back to an older copy from one that went on.
//
// A store counts its changes: that is its position. At each start it begins an epoch, of which it logs a random id and the position
// that it begins at. Whoever was told of a change by epoch and position can see from the history whether the store still has it: a
// copy that was put back has another epoch in its place, or ends the epoch earlier. The package is values alone.
package history

import (
	"encoding/hex"
	"slices"
)

// MaxEpochs bounds the epochs of a history.
const MaxEpochs = 64

// newestKept is how many of the newest epochs are kept although nothing was logged in them: sessions that began in them may live.
const newestKept = 8

// An EpochID is random. The zero value is that of no epoch.
type EpochID [16]byte

// String returns the id in hexadecimal.
func (id EpochID) String() string { return hex.EncodeToString(id[:]) }

// Epoch is the time from one start of a store to the next.
type Epoch struct {
	ID EpochID
	// Began is the position of the last change before it. Its own come after that.
	Began uint64
}

// Point is a change of a store: the epoch that it was logged in, and its position. The zero value is none.
type Point struct {
	Epoch    EpochID
	Position uint64
}

// History is where a store has been. The zero value is that of one that tells nothing.
type History struct {
	// Epochs are the last ones, the oldest first; the last is the present one. They are never changed, but replaced whole.
	Epochs []Epoch
	// Position is the store's.
	Position uint64
}

// Begin returns the epochs with another one. Of more than [MaxEpochs] one goes: the oldest in which nothing was logged, since nobody was
// ever told of a change in it, or else the oldest.
func Begin(epochs []Epoch, next Epoch) []Epoch {
	epochs = append(slices.Clip(epochs), next)
	if len(epochs) <= MaxEpochs {
		return epochs
	}
	for i := range epochs[:len(epochs)-newestKept] {
		if epochs[i].Began == epochs[i+1].Began {
			return slices.Delete(epochs, i, i+1)
		}
	}
	return epochs[1:]
}

// Current returns the present epoch, zero for a store that tells nothing.
func (h History) Current() EpochID {
	if len(h.Epochs) == 0 {
		return EpochID{}
	}
	return h.Epochs[len(h.Epochs)-1].ID
}

// Holds says whether the store has the change, as far as can be told: of no change, and by a store that tells nothing, it is held.
func (h History) Holds(p Point) bool {
	if p == (Point{}) || len(h.Epochs) == 0 {
		return true
	}
	i := h.index(p.Epoch)
	if i < 0 {
		return false
	}
	end := h.Position
	if i+1 < len(h.Epochs) {
		end = h.Epochs[i+1].Began
	}
	return p.Position <= end
}

// Diverged says whether two stores of one id, at one time, are copies that went on apart: neither has lived through the present epoch of
// the other. One that has is the same store, earlier or later.
func Diverged(a, b History) bool {
	return len(a.Epochs) > 0 && len(b.Epochs) > 0 && a.index(b.Current()) < 0 && b.index(a.Current()) < 0
}

// index returns the place of the epoch, -1 if it is not there.
func (h History) index(id EpochID) int {
	return slices.IndexFunc(h.Epochs, func(e Epoch) bool { return e.ID == id })
}
