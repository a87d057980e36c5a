//go:build linux

package jobexec_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/jobexec"
	"pushrelay/internal/need"
)

// TestMetricsFileOfAnotherUser: a job that changes its user can write the file, also if $TMPDIR is for one user only, as it is
// where logins get one of their own, or is not there at all.
func TestMetricsFileOfAnotherUser(t *testing.T) {
	t.Parallel()
	need.Root(t, "a job changes its user")
	private := filepath.Join(t.TempDir(), "private")
	if err := os.Mkdir(private, 0o700); err != nil {
		t.Fatal(err)
	}
	// The command is this program, which nobody else can reach where go test has put it.
	program := filepath.Join("/var/tmp", filepath.Base(t.TempDir())+"-jobexec.test")
	content, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, content, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(program) })
	for name, dir := range map[string]string{"private": private, "missing": "/nowhere", "usual": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newJob(t, []string{"TMPDIR=" + dir}, program, "write as nobody", "rows 12\n")
			if out, code := s.run(t); code != 0 || s.stderr.Len() > 0 {
				t.Fatalf("exit code %d: %s%s", code, out, s.stderr.String())
			}
			if pushes := s.pushes(t); len(pushes) != 2 || pushes[1] != "rows 12\n" {
				t.Errorf("pushed %q", pushes)
			}
		})
	}
}

// TestPlacesOfTheFile: the first place that works is taken, and where none does the error is that of the first.
func TestPlacesOfTheFile(t *testing.T) {
	t.Parallel()
	good := t.TempDir()
	path, remove, err := jobexec.NewMetricsFile("/nowhere", good)
	if err != nil || !strings.HasPrefix(path, good+"/") {
		t.Fatalf("the file is %q, %v, want it in %s", path, err, good)
	}
	remove()
	if left, err := os.ReadDir(good); err != nil || len(left) > 0 {
		t.Errorf("%v is left behind, %v", left, err)
	}
	if _, _, err := jobexec.NewMetricsFile("/nowhere", "/nothing"); err == nil || !strings.Contains(err.Error(), "/nowhere") {
		t.Errorf("without a place: %v, want the reason of the first", err)
	}
}

// TestFilesOfKilledJobs: the file of a job that was killed goes after a day, with the next job, and those of others stay.
func TestFilesOfKilledJobs(t *testing.T) {
	t.Parallel()
	place := t.TempDir()
	leave := func(name string, age time.Duration) string {
		dir := filepath.Join(place, name)
		if err := os.Mkdir(dir, 0o711); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "x.prom"), nil, 0o666); err != nil {
			t.Fatal(err)
		}
		setAge(t, dir, age)
		return dir
	}
	killed := leave("relay-metrics-1", 25*time.Hour)
	kept := []string{leave("relay-metrics-2", 23*time.Hour), leave("somebody-elses", 25*time.Hour)}
	if os.Geteuid() == 0 {
		dir := leave("relay-metrics-3", 25*time.Hour)
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		kept = append(kept, dir)
	}
	elsewhere := t.TempDir()
	link := filepath.Join(place, "relay-metrics-4")
	if err := os.Symlink(elsewhere, link); err != nil {
		t.Fatal(err)
	}
	kept = append(kept, elsewhere, link)

	long, remove, err := jobexec.NewMetricsFile(place) // of a job that runs for days
	if err != nil {
		t.Fatal(err)
	}
	defer remove()
	setAge(t, filepath.Dir(long), 72*time.Hour)
	_, removeOther, err := jobexec.NewMetricsFile(place)
	if err != nil {
		t.Fatal(err)
	}
	removeOther()
	if _, err := os.Lstat(killed); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a killed job left is still there: %v", err)
	}
	for _, path := range append(kept, long) {
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("%s was removed: %v", path, err)
		}
	}
}

func setAge(t *testing.T, path string, age time.Duration) {
	t.Helper()
	at := time.Now().Add(-age)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}
