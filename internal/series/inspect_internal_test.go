package series

import (
	"errors"
	"testing"
)

// TestInspectHoles: a reader walks through the names of holes once, so that they have to rise.
func TestInspectHoles(t *testing.T) {
	for _, tt := range []struct {
		name  string
		holes []int
		want  error
	}{
		{"rising", []int{0, 1, 2}, nil},
		{"falling", []int{2, 1, 0}, errEncoding},
		{"the same twice", []int{1, 1}, errEncoding},
		{"one too many", []int{0, 1, 2, 3}, errEncoding},
	} {
		e := encoding{}
		e.family(0, []byte("m"), nil, nil, 0, []string{"a", "b", "c"}, 1)
		var labels []slot
		for _, hole := range tt.holes {
			labels = append(labels, slot{hole: hole})
		}
		e.metric(labels, nil, false)
		if _, err := inspect(e.out); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}
