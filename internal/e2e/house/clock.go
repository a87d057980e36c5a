//go:build linux

package house

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pushrelay/internal/e2e/program"
)

// clockVariable names the file of a program's clock: the number of seconds that it is ahead.
const clockVariable = "PUSHRELAY_TEST_CLOCK"

// clockSource is what package time has more in a program with a clock of its own. The file is memory that both share, so that the
// clock can be set while the program runs; the monotonic clock goes on, as it does when a real clock is set. To read it is no system
// call: the runtime asks for the time where none is possible.
const clockSource = `package time

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

var ahead = openClock()

func openClock() *atomic.Int64 {
	name, found := syscall.Getenv("` + clockVariable + `")
	if !found {
		return new(atomic.Int64)
	}
	file, err := syscall.Open(name, syscall.O_RDONLY, 0)
	if err != nil {
		panic("opening the clock " + name + ": " + err.Error())
	}
	memory, err := syscall.Mmap(file, 0, int(unsafe.Sizeof(atomic.Int64{})), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic("reading the clock " + name + ": " + err.Error())
	}
	syscall.Close(file)
	return (*atomic.Int64)(unsafe.Pointer(&memory[0]))
}
`

var errClock = errors.New("clock")

// programsWithClocks are both programs, built once more with a wall clock that a test can set. A static binary asks the kernel for the
// time without a library that could be put in between, and the kernel has one wall clock for all; so package time itself is built with
// another Now, and everything else as it is.
var programsWithClocks = sync.OnceValues(func() (dir string, err error) {
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("asking for GOROOT: %w", err)
	}
	of := filepath.Join(strings.TrimSpace(string(goroot)), "src", "time")
	original, added := filepath.Join(of, "time.go"), filepath.Join(of, "ahead.go")
	source, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	const now = "sec, nsec, mono := runtimeNow()\n"
	if !strings.Contains(string(source), now) {
		return "", fmt.Errorf("%w: %s does not read the clock by %q any more", errClock, original, now)
	}
	dir = filepath.Join(filepath.Dir(program.RelayAgent()), "_clocks") // not a package of this module, whoever lists all
	overlay := map[string]string{original: filepath.Join(dir, "time.go"), added: filepath.Join(dir, "ahead.go")}
	list, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		return "", err
	}
	files := map[string]string{
		overlay[original]: strings.ReplaceAll(string(source), now, now+"\tsec += ahead.Load()\n"),
		overlay[added]:    clockSource, filepath.Join(dir, "overlay.json"): string(list),
	}
	if err := program.Build(dir, files, "-overlay="+filepath.Join(dir, "overlay.json"), "./cmd/relay-server", "./cmd/relay-agent"); err != nil {
		return "", err
	}
	return dir, nil
})

// A Clock is the wall clock of one program, by the file that the program has it from.
type Clock string

// NewClock gives a command of one of the programs a clock of its own, which is right until it is set. It may be set while the program
// runs.
func NewClock(t testing.TB, of *program.Command) Clock {
	t.Helper()
	dir, err := programsWithClocks()
	if err != nil {
		t.Fatal(err)
	}
	c := Clock(filepath.Join(t.TempDir(), "clock"))
	c.SetAhead(t, 0)
	of.Path, of.Env = filepath.Join(dir, filepath.Base(of.Path)), append(of.Env, clockVariable+"="+string(c))
	return c
}

// SetAhead sets the clock, at once: to so much more than the machine's.
func (c Clock) SetAhead(t testing.TB, by time.Duration) {
	t.Helper()
	file, err := os.OpenFile(string(c), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.Write(binary.NativeEndian.AppendUint64(nil, uint64(by/time.Second))); err != nil {
		t.Fatal(err)
	}
}
