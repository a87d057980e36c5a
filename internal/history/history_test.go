package history_test

import (
	"testing"

	"pushrelay/internal/history"
)

func id(n int) history.EpochID { return history.EpochID{byte(n), byte(n >> 8)} }

func TestHolds(t *testing.T) {
	h := history.History{Epochs: []history.Epoch{{ID: id(1), Began: 0}, {ID: id(2), Began: 10}, {ID: id(3), Began: 10}}, Position: 15}
	for _, tt := range []struct {
		name string
		h    history.History
		p    history.Point
		want bool
	}{
		{"within an epoch that has ended", h, history.Point{Epoch: id(1), Position: 10}, true},
		{"beyond its end", h, history.Point{Epoch: id(1), Position: 11}, false},
		{"in an epoch in which nothing was logged", h, history.Point{Epoch: id(2), Position: 11}, false},
		{"within the present one", h, history.Point{Epoch: id(3), Position: 15}, true},
		{"beyond it", h, history.Point{Epoch: id(3), Position: 16}, false},
		{"in another epoch", h, history.Point{Epoch: id(4), Position: 1}, false},
		{"no change", h, history.Point{}, true},
		{"a store that tells nothing", history.History{}, history.Point{Epoch: id(4), Position: 1}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.h.Holds(tt.p); got != tt.want {
				t.Errorf("Holds(%+v) = %v, want %v", tt.p, got, tt.want)
			}
		})
	}
}

// TestBegin: epochs with changes are remembered, however often the store is started in vain.
func TestBegin(t *testing.T) {
	var epochs []history.Epoch
	for n := range 60 {
		epochs = history.Begin(epochs, history.Epoch{ID: id(n), Began: uint64(10 * n)})
	}
	before := len(epochs)
	for n := range 1000 {
		epochs = history.Begin(epochs, history.Epoch{ID: id(1000 + n), Began: 600})
	}
	h := history.History{Epochs: epochs, Position: 600}
	if before != 60 || len(epochs) != history.MaxEpochs {
		t.Errorf("%d and then %d epochs", before, len(epochs))
	}
	if h.Holds(history.Point{Epoch: id(3), Position: 35}) || !h.Holds(history.Point{Epoch: id(4), Position: 45}) {
		t.Error("not the oldest four went, for eight starts in vain")
	}
	if !h.Holds(history.Point{Epoch: id(1999), Position: 600}) || !h.Holds(history.Point{Epoch: id(1998), Position: 600}) {
		t.Error("the newest are not kept")
	}
	for n := range 100 {
		epochs = history.Begin(epochs, history.Epoch{ID: id(5000 + n), Began: uint64(700 + n)})
	}
	if h := (history.History{Epochs: epochs, Position: 800}); h.Holds(history.Point{Epoch: id(5035), Position: 736}) || !h.Holds(history.Point{Epoch: id(5036), Position: 737}) {
		t.Error("not the last 64 are kept where something was logged in each")
	}
}

func TestDiverged(t *testing.T) {
	of := func(ids ...int) (h history.History) {
		for _, n := range ids {
			h.Epochs = append(h.Epochs, history.Epoch{ID: id(n)})
		}
		return h
	}
	for _, tt := range []struct {
		name string
		a, b history.History
		want bool
	}{
		{"one store under two addresses", of(1, 2), of(1, 2), false},
		{"a store and the same after a restart", of(1, 2), of(1, 2, 3), false},
		{"two copies", of(1, 2), of(1, 3), true},
		{"a copy of a running store", of(1), of(2), true},
		{"one that tells nothing", of(), of(1), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if history.Diverged(tt.a, tt.b) != tt.want || history.Diverged(tt.b, tt.a) != tt.want {
				t.Errorf("Diverged is not %v", tt.want)
			}
		})
	}
}
