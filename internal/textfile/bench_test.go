package textfile_test

import (
	"fmt"
	"testing"

	"pushrelay/internal/textfile"
)

// BenchmarkLook is what a look costs that finds nothing new.
func BenchmarkLook(b *testing.B) {
	bench := newBench(b)
	for i := range textfile.MaxFiles {
		bench.write(fmt.Sprintf("file%d.prom", i), "m 1\n")
	}
	bench.Look(b.Context())
	for b.Loop() {
		bench.Look(b.Context())
	}
}
