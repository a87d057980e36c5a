//go:build unix

package textfile_test

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestPipe: a pipe to which nobody writes holds nothing up.
func TestPipe(t *testing.T) {
	b := newBench(t)
	b.write("y.prom", "m 1\n")
	if err := syscall.Mkfifo(filepath.Join(b.dir, "x.prom"), 0o600); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	b.look(`replace {job="node",textfile="y"}`)
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("looking took %s", took)
	}
	b.metrics(`directory_error{DIR} 0 error{DIR/x.prom} 1 error{DIR/y.prom} 0 files 2 mtime_seconds{DIR/y.prom} 9.0000000025e+08 waiting_files 0`)
	if !strings.Contains(b.log.String(), "is no regular file") {
		t.Errorf("the log does not say why: %s", b.log)
	}
}
