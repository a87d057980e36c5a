// Command testreport turns the output of `go test -json` into something to read, and counts.
//
// It prints one line per package, the output of what failed in full, and each skipped test with its reason: a skip hides
// nothing only as long as somebody sees it. The last line is always "N passed, N failed, N skipped", counting tests and
// subtests alike; a package that fails without a failing test (it does not build, TestMain gave up) counts as one failure.
// It exits with 1 when anything failed or when nothing was reported at all.
package main

import (
	"fmt"
	"os"
)

func main() {
	r := newReport(os.Stdout)
	if err := r.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(1)
	}
	if !r.finish() {
		os.Exit(1)
	}
}
