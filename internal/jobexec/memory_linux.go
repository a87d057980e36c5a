package jobexec

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// memory finds out how much memory a command needed.
//
// What the system tells of a command that has ended is wrong below the size of this process: until the command itself is
// loaded, its process runs in the memory of this one, and that counts. So what is no larger is looked up while the command runs:
// each process has a high-water mark of what it was loaded as.
type memory struct {
	own   int64 // the mark of this process: what the system tells of the command is at least this
	ended chan struct{}
	watch sync.WaitGroup
	seen  int64 // owned by the goroutine of watch until it has ended
}

const (
	// memoryMargin is what the system may be wrong by: it counts pages for each processor and adds up now and then.
	memoryMargin = 1 << 20
	// firstLook is when the first look is: a command is still being loaded before. Each look is later than the one before by a quarter
	// of the time until then, and by lastLook at most, so that what is missed is what a command took in the last fifth of its life,
	// or in its last second. A mark never falls.
	firstLook = 10 * time.Millisecond
	lastLook  = time.Second
	// maxProcesses bounds the processes of one look.
	maxProcesses = 100
)

// watchMemory begins to watch a command that was just started. The caller ends it.
func watchMemory(pid int) *memory {
	m := &memory{own: highWaterMark("self"), ended: make(chan struct{})}
	begun := time.Now()
	m.watch.Go(func() {
		for wait := firstLook; m.seen <= m.own+memoryMargin; wait = min(time.Since(begun)/4, lastLook) {
			select {
			case <-m.ended:
				return
			case <-time.After(wait):
				m.seen = max(m.seen, highWaterMarks(pid))
			}
		}
	})
	return m
}

// end returns what the largest process of a command needed that has ended; told is what the system says of it. It returns 0 if
// nothing is known: a command that was gone before the first look is not known to have needed less than this process.
func (m *memory) end(told int64) int64 {
	close(m.ended)
	m.watch.Wait()
	if told > m.own+memoryMargin {
		return told
	}
	return m.seen
}

// highWaterMarks returns the largest mark of a process and of those that come from it.
func highWaterMarks(pid int) int64 {
	var largest int64
	pids := []string{strconv.Itoa(pid)}
	for i := 0; i < len(pids) && i < maxProcesses; i++ {
		largest = max(largest, highWaterMark(pids[i]))
		pids = append(pids, childrenOf(pids[i])...)
	}
	return largest
}

// childrenOf returns the children of a process, whichever of its threads started them.
func childrenOf(pid string) []string {
	threads, err := os.ReadDir("/proc/" + pid + "/task")
	if err != nil {
		return nil
	}
	var children []string
	for _, thread := range threads {
		list, err := os.ReadFile("/proc/" + pid + "/task/" + thread.Name() + "/children")
		if err == nil {
			children = append(children, strings.Fields(string(list))...)
		}
	}
	return children
}

// highWaterMark returns the most resident memory that a process had since it was loaded; 0 if it is gone.
func highWaterMark(pid string) int64 {
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return 0
	}
	_, rest, ok := strings.Cut(string(status), "\nVmHWM:")
	if !ok {
		return 0
	}
	var kib int64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		return 0
	}
	return kib << 10
}
