package tunnel

import (
	"fmt"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/history"
)

// HistoryToProto returns where a store has been as it travels; nil for one that tells nothing.
func HistoryToProto(h history.History) *relayv1.StoreHistory {
	if len(h.Epochs) == 0 {
		return nil
	}
	p := &relayv1.StoreHistory{Position: h.Position}
	for i := range h.Epochs {
		p.Epochs = append(p.Epochs, &relayv1.StoreEpoch{Id: h.Epochs[i].ID[:], Position: h.Epochs[i].Began})
	}
	return p
}

func historyFromProto(p *relayv1.StoreHistory) (history.History, error) {
	h := history.History{Position: p.GetPosition()}
	if len(p.GetEpochs()) > history.MaxEpochs {
		return h, fmt.Errorf("the relay tells of %d epochs of its store, and %d are allowed", len(p.GetEpochs()), history.MaxEpochs)
	}
	for _, e := range p.GetEpochs() {
		if len(e.GetId()) != len(history.EpochID{}) {
			return h, fmt.Errorf("the relay tells of an epoch of its store with an id of %d bytes, want %d", len(e.GetId()), len(history.EpochID{}))
		}
		h.Epochs = append(h.Epochs, history.Epoch{ID: history.EpochID(e.GetId()), Began: e.GetPosition()})
	}
	return h, nil
}

// pointToProto returns nil for a point that is not known.
func pointToProto(p history.Point) *relayv1.StorePoint {
	if p.Epoch == (history.EpochID{}) || p.Position == 0 {
		return nil
	}
	return &relayv1.StorePoint{Epoch: p.Epoch[:], Position: p.Position}
}

// pointFromProto returns the zero point for one that is not there, or malformed: it cannot be compared with any history.
func pointFromProto(p *relayv1.StorePoint) history.Point {
	if len(p.GetEpoch()) != len(history.EpochID{}) {
		return history.Point{}
	}
	return history.Point{Epoch: history.EpochID(p.GetEpoch()), Position: p.GetPosition()}
}
