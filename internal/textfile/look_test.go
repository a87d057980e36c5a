package textfile_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
	"pushrelay/internal/textfile"
)

func TestPushesFiles(t *testing.T) {
	b := newBench(t)
	b.write("x.prom", "# HELP m M.\nm{a=\"b\"} 1\n")
	b.write("empty.prom", "")
	b.write("other.txt", "n 1\n")
	b.Look(t.Context())
	if got := len(b.groups.took()); got != 2 {
		t.Errorf("%d pushes", got)
	}
	const format = `# HELP node_textfile_mtime_seconds When the text file was last modified, in seconds since the epoch.
# TYPE node_textfile_mtime_seconds gauge
node_textfile_mtime_seconds{file="%s"} 9.0000000025e+08
`
	for name, content := range map[string]string{"x": "# HELP m M.\nm{a=\"b\"} 1\n", "empty": ""} {
		want := content + fmt.Sprintf(format, filepath.Join(b.dir, name+".prom"))
		if got := b.groups.bodies[keyOf(t, "job", "node", "textfile", name)]; got != want {
			t.Errorf("the body of %s is\n%s, want\n%s", name, got, want)
		}
	}
	b.metrics(`directory_error{DIR} 0 error{DIR/empty.prom} 0 error{DIR/x.prom} 0 files 2
		mtime_seconds{DIR/empty.prom} 9.0000000025e+08 mtime_seconds{DIR/x.prom} 9.0000000025e+08 waiting_files 0`)
}

func keyOf(tb testing.TB, pairs ...string) grouping.Key {
	tb.Helper()
	var labels []grouping.Label
	for i := 0; i < len(pairs); i += 2 {
		labels = append(labels, grouping.Label{Name: pairs[i], Value: pairs[i+1]})
	}
	key, err := grouping.New(labels...)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// TestPushesWhatDiffers: what was pushed is not pushed again, also not by a collector that is new, and what somebody else
// did to the group is undone.
func TestPushesWhatDiffers(t *testing.T) {
	b := newBench(t)
	b.write("x.prom", "m 1\n")
	b.look(replaceX)
	b.look()
	b.restart()
	b.apply(textfile.Directory{Path: b.dir, Job: "node"})
	b.look()
	b.metrics(`directory_error{DIR} 0 error{DIR/x.prom} 0 files 1 mtime_seconds{DIR/x.prom} 9.0000000025e+08 waiting_files 0`)
	b.write("x.prom", "m 2\n")
	b.look(replaceX)
	if err := os.Chtimes(filepath.Join(b.dir, "x.prom"), modified, modified.Add(1)); err != nil {
		t.Fatal(err)
	}
	b.look() // a nanosecond that the metric does not show
	if err := os.Chtimes(filepath.Join(b.dir, "x.prom"), modified, modified.Add(1e9)); err != nil {
		t.Fatal(err)
	}
	b.look(replaceX)
	delete(b.groups.owned, keyOf(t, "job", "node", "textfile", "x"))
	b.look(replaceX)
}

func TestDeletesGroupsWithoutFile(t *testing.T) {
	b := newBench(t)
	b.write("x.prom", "m 1\n")
	b.write("y.prom", "m 1\n")
	b.Look(t.Context())
	b.groups.took()
	b.remove("x.prom")
	b.look(deleteX)
	b.metrics(`directory_error{DIR} 0 error{DIR/y.prom} 0 files 1 mtime_seconds{DIR/y.prom} 9.0000000025e+08 waiting_files 0`)

	b.restart() // while it was down, the other one went, too
	b.apply(textfile.Directory{Path: b.dir, Job: "node"})
	b.remove("y.prom")
	b.look(`delete {job="node",textfile="y"}`)
	b.look()
}

// TestFileThatIsBack: a file that was missed when the directory was listed is asked for again before its group goes.
func TestFileThatIsBack(t *testing.T) {
	b := newBench(t)
	b.write("x.prom", "m 1\n")
	b.look(replaceX)
	b.remove("x.prom")
	b.write("y.prom", "m 1\n")
	b.groups.fail = func(*change.Change) error { // after listing
		b.write("x.prom", "m 1\n")
		return nil
	}
	b.look(`replace {job="node",textfile="y"}`)
	b.look()
}

func TestDeletesGroupsOfOtherConfigurations(t *testing.T) {
	b := newBench(t)
	b.write("x.prom", "m 1\n")
	b.look(replaceX)
	b.apply(textfile.Directory{Path: b.dir, Job: "node", Labels: map[string]string{"zone": "z"}})
	b.Look(t.Context())
	if got := strings.Join(b.groups.took(), ", "); got != `replace {job="node",textfile="x",zone="z"}, `+deleteX {
		t.Errorf("other labels: %s", got)
	}
	b.apply()
	b.look(`delete {job="node",textfile="x",zone="z"}`)
	b.metrics("files 0 waiting_files 0")
}

// TestDirectoryThatCannotBeRead: nothing is deleted because of it, and the other directory goes on.
func TestDirectoryThatCannotBeRead(t *testing.T) {
	b := newBench(t)
	other := t.TempDir()
	both := []textfile.Directory{{Path: b.dir, Job: "node"}, {Path: other, Job: "other"}}
	b.apply(both...)
	b.write("x.prom", "m 1\n")
	b.look(replaceX)
	for _, spoil := range []func() error{
		func() error { return os.Rename(b.dir, b.dir+".away") },
		func() error { return os.WriteFile(b.dir, nil, 0o600) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		b.look()
		b.restart()
		b.apply(both...)
		b.look()
		b.metrics(`directory_error{DIR} 1 directory_error{` + other + `} 0 files 0 waiting_files 0`)
		if !strings.Contains(b.log.String(), b.dir) {
			t.Errorf("the log does not name the directory: %s", b.log)
		}
	}
	if err := errors.Join(os.Remove(b.dir), os.Rename(b.dir+".away", b.dir)); err != nil {
		t.Fatal(err)
	}
	b.look()
	b.metrics(`directory_error{DIR} 0 directory_error{` + other + `} 0 error{DIR/x.prom} 0 files 1 mtime_seconds{DIR/x.prom} 9.0000000025e+08 waiting_files 0`)
}

// TestBadFiles: a file that cannot be used is reported, and what it held before stays, also after a restart.
func TestBadFiles(t *testing.T) {
	write := func(content string) func(b *bench) error {
		return func(b *bench) error {
			b.write("x.prom", content)
			return nil
		}
	}
	for _, tt := range []struct {
		name  string
		spoil func(b *bench) error
		says  string
		asked []string // what is well formed is for others to judge, once
	}{
		{"half written", write("m 1\nm{a=\"b\""), "line 2 is not in the text format: ", nil},
		{"UTF-16", write("\xFF\xFEm\x00 \x001\x00\n\x00"), "line 1 is not in the text format: invalid metric name; the file is UTF-16", nil},
		{"malformed", write("m 1\nm one\n"), "line 2 is not in the text format: expected float as value, got …", nil},
		{"timestamp", write("m 1 900000000000\n"), "pushed metrics must not have timestamps", []string{replaceX}},
		{"series twice", write("m 1\nm 2\n"), "was collected before", []string{replaceX}},
		{"series of the same labels under the key", write("m{job=\"a\"} 1\nm{exported_job=\"a\"} 2\n"), "was collected before", []string{replaceX}},
		{"beyond the limits", write("m{a=\"1\",b=\"1\",c=\"1\",d=\"1\"} 1\n"), "more than 3 labels", nil},
		{"buckets twice", write("# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"1.0\"} 1\n"), "was collected before", []string{replaceX}},
		{"the agent's own metric", write(textfile.MtimeFamily + " 1\n"), "is the agent's to make", nil},
		{"too large", write(strings.Repeat("# x\n", 1<<18+1)), "larger than 1048576 bytes", nil},
		{"directory", func(b *bench) error { return os.Mkdir(filepath.Join(b.dir, "x.prom"), 0o700) }, "is a directory", nil},
		{"link that leads nowhere", func(b *bench) error { return os.Symlink("nowhere", filepath.Join(b.dir, "x.prom")) }, "no such file", nil},
		{"link in a circle", func(b *bench) error { return os.Symlink("x.prom", filepath.Join(b.dir, "x.prom")) }, "symbolic links", nil},
		{"device", func(b *bench) error { return os.Symlink("/dev/zero", filepath.Join(b.dir, "x.prom")) }, "is no regular file", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			b.write("x.prom", "m 1\n")
			b.look(replaceX)
			b.remove("x.prom")
			if err := tt.spoil(b); err != nil {
				t.Fatal(err)
			}
			b.look(tt.asked...)
			b.look()
			b.metrics(`directory_error{DIR} 0 error{DIR/x.prom} 1 files 1 mtime_seconds{DIR/x.prom} 9.0000000025e+08 waiting_files 0`)
			if log := b.log.String(); !strings.Contains(log, tt.says) || !strings.Contains(log, filepath.Join(b.dir, "x.prom")) {
				t.Errorf("the log does not say %q of the file: %s", tt.says, log)
			}
			b.restart()
			b.apply(textfile.Directory{Path: b.dir, Job: "node"})
			b.look(tt.asked...)
			b.metrics(`directory_error{DIR} 0 error{DIR/x.prom} 1 files 1 waiting_files 0`)
			b.remove("x.prom")
			b.write("x.prom", "m 2\n")
			b.look(replaceX)
			b.metrics(`directory_error{DIR} 0 error{DIR/x.prom} 0 files 1 mtime_seconds{DIR/x.prom} 9.0000000025e+08 waiting_files 0`)
		})
	}
}

// TestSecretsAreNotTold: of a file that is no exposition nothing is told but its kind, the line and the kind of mistake.
func TestSecretsAreNotTold(t *testing.T) {
	const secret = "hunter2"
	for name, content := range map[string]string{
		"passwords of users": "root:$6$hunter2$hunter2:19000:0:99999:7:::\n",
		"variables":          "PASSWORD=hunter2\n",
		"a token":            "hunter2\n",
		"a token, unended":   "hunter2",
		"a long token":       strings.Repeat("hunter2", 10_000) + "\n",
		"labels":             "hunter2{a=\"1\",b=\"1\",c=\"1\",d=\"1\"} 1\n",
		"a key":              "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n",
		"YAML":               "basic_auth:\n  password: hunter2\n",
		"JSON":               `{"password":"hunter2"}`,
		"an INI file":        "[login]\npassword = hunter2\n",
		"after good lines":   "m 1\nm{a=\"hunter2\" hunter2} hunter2\n",
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.write("secret", content)
			if err := os.Symlink("secret", filepath.Join(b.dir, "x.prom")); err != nil {
				t.Fatal(err)
			}
			b.look()
			faults := b.Faults()
			if len(faults) != 1 {
				t.Fatalf("faults = %v, want one", faults)
			}
			var page strings.Builder
			families, err := b.registry.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, family := range families {
				page.WriteString(family.String())
			}
			for where, said := range map[string]string{"fault": faults[0].Err.Error(), "log": b.log.String(), "metrics": page.String()} {
				if strings.Contains(said, secret[:4]) {
					t.Errorf("the %s tells what is in the file: %s", where, said)
				}
			}
		})
	}
}

// TestTidied: what editors and other systems leave in a file is not pushed, and keeps nothing else from being so.
func TestTidied(t *testing.T) {
	for name, content := range map[string]string{
		"byte order mark": "\uFEFFm 1\n", "CR LF": "m 1\r\n", "no line feed at the end": "m 1", "all of it": "\uFEFFm 1\r",
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.write("x.prom", content)
			b.look(replaceX)
			b.look()
			if got, _, _ := strings.Cut(b.groups.bodies[keyOf(t, "job", "node", "textfile", "x")], "#"); got != "m 1\n" {
				t.Errorf("pushed %q", got)
			}
			b.restart()
			b.apply(textfile.Directory{Path: b.dir, Job: "node"})
			b.look()
			b.write("x.prom", "m 1\n") // which says the same
			b.look()
		})
	}
}

// TestFilesThatAreNotNamed: there is no label value for them.
func TestFilesThatAreNotNamed(t *testing.T) {
	b := newBench(t)
	b.write(".prom", "m 1\n")
	b.write("x.prom", "m 1\n")
	b.look(replaceX)
	b.metrics(`directory_error{DIR} 1 error{DIR/x.prom} 0 files 1 mtime_seconds{DIR/x.prom} 9.0000000025e+08 waiting_files 0`)
}

func TestLinksAreFollowed(t *testing.T) {
	b := newBench(t)
	b.write("content", "m 1\n")
	if err := os.Symlink("content", filepath.Join(b.dir, "x.prom")); err != nil {
		t.Fatal(err)
	}
	b.look(replaceX)
	b.write("content", "m 2\n")
	b.look(replaceX)
}

// TestTooManyFiles: known ones go on, new ones must wait until there is room, and none is deleted for it.
func TestTooManyFiles(t *testing.T) {
	b := newBench(t)
	b.write("z.prom", "m 1\n")
	b.Look(t.Context())
	for i := range textfile.MaxFiles {
		b.write(fmt.Sprintf("a%04d.prom", i), "m 1\n")
	}
	b.Look(t.Context())
	if got := len(b.groups.owned); got != textfile.MaxFiles {
		t.Errorf("%d groups, want %d", got, textfile.MaxFiles)
	}
	if log := b.log.String(); strings.Count(log, "there are more than 1000 text files: a0999.prom") != 1 {
		t.Errorf("the log does not say that there are too many: %s", log)
	}
	b.groups.took()
	b.write("z.prom", "m 2\n")
	b.look(`replace {job="node",textfile="z"}`)
	b.remove("z.prom")
	b.look(`replace {job="node",textfile="a0999"}`, `delete {job="node",textfile="z"}`)
}

// TestFaults: what is wrong is told with its reason, for as long as it is.
func TestFaults(t *testing.T) {
	b := newBench(t)
	missing := filepath.Join(b.dir, "missing")
	b.apply(textfile.Directory{Path: b.dir, Job: "node"}, textfile.Directory{Path: missing, Job: "other"})
	b.write("good.prom", "m 1\n")
	b.write("half.prom", "m")
	b.write("clash.prom", "n 1\n")
	b.groups.fail = func(r *change.Change) error {
		if name, _ := r.Key.Get("textfile"); name == "clash" {
			return change.Refuse(change.Inconsistent, "n is a GAUGE elsewhere")
		}
		return nil
	}
	want := func(reasons ...string) {
		t.Helper()
		b.Look(t.Context())
		var got []string
		for _, f := range b.Faults() {
			got = append(got, strings.TrimPrefix(f.Path, b.dir)+": "+f.Err.Error())
		}
		for i, reason := range reasons {
			if len(got) != len(reasons) || !strings.Contains(got[i], reason) {
				t.Fatalf("faults = %q, want %q", got, reasons)
			}
		}
		if len(reasons) != len(got) {
			t.Fatalf("faults = %q, want %q", got, reasons)
		}
	}
	want("/clash.prom: n is a GAUGE elsewhere", "/half.prom: ", "/missing: ")
	want("/clash.prom: n is a GAUGE elsewhere", "/half.prom: ", "/missing: ")
	b.write("half.prom", "m 1\n")
	want("/clash.prom: ", "/missing: ")
	b.remove("clash.prom")
	want("/missing: ")
	if path, ok := b.FileOf(keyOf(t, "job", "node", "textfile", "half")); !ok || path != filepath.Join(b.dir, "half.prom") {
		t.Errorf("the file of a group is %q, %t", path, ok)
	}
	if path, ok := b.FileOf(keyOf(t, "job", "node")); ok {
		t.Errorf("the file of a group that is of none is %q", path)
	}
}

// TestRefusedAgain: what was refused is tried again slowly, also if the file has not changed.
func TestRefusedAgain(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench, _ chan<- fsnotify.Event) {
		b.groups.fail = func(*change.Change) error { return change.Refuse(change.Inconsistent, "more than 3 series") }
		b.write("x.prom", "m 1\n")
		time.Sleep(textfile.RefusedAgain / 2)
		if got := b.groups.took(); !slices.Equal(got, []string{replaceX}) {
			t.Errorf("asked for %q, want once", got)
		}
		b.groups.mu.Lock()
		b.groups.fail = nil
		b.groups.mu.Unlock()
		time.Sleep(textfile.RefusedAgain)
		if got := b.groups.took(); !slices.Equal(got, []string{replaceX}) {
			t.Errorf("later asked for %q, want once more", got)
		}
		time.Sleep(2 * textfile.RefusedAgain)
		if got := b.groups.took(); len(got) > 0 {
			t.Errorf("asked for %q after it was taken", got)
		}
	})
}

// TestRefusedForGood: the push is not tried again at once, unless the file changes.
func TestRefusedForGood(t *testing.T) {
	b := newBench(t)
	b.write("x.prom", "m 1\n")
	b.groups.fail = func(*change.Change) error { return change.Refuse(change.Inconsistent, "m is a GAUGE elsewhere") }
	b.look(replaceX)
	b.metrics(`directory_error{DIR} 0 error{DIR/x.prom} 1 files 1 waiting_files 0`)
	b.look()
	b.write("x.prom", "m 1\n") // another file with the same content and time
	b.look()
	if !strings.Contains(b.log.String(), "m is a GAUGE elsewhere") {
		t.Errorf("the log does not say why: %s", b.log)
	}
	b.groups.fail = nil
	b.write("x.prom", "n 1\n")
	b.look(replaceX)
	b.metrics(`directory_error{DIR} 0 error{DIR/x.prom} 0 files 1 mtime_seconds{DIR/x.prom} 9.0000000025e+08 waiting_files 0`)
}
