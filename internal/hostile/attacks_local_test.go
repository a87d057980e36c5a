//go:build linux

package hostile_test

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"pushrelay/internal/need"
)

// localUser is a user of the relay's machine who may write to the relay's data dir.
const localUser = 61001

// TestPlantedLinksInTheDataDir: a local user who may write to the data dir of a relay that root runs has it overwrite, give away or
// read nothing of root's, whatever name the link has.
func TestPlantedLinksInTheDataDir(t *testing.T) {
	need.Root(t, "there are two users")
	// What a relay writes, with the names that its files have before they are whole.
	r := startRelay(t)
	honest := r.honest()
	honest.probe(t, waits{})
	eventually(t, "the agents are on the disk", func() bool {
		_, err := os.Stat(filepath.Join(r.data(), "agents.json"))
		return err == nil
	})
	var final, temporary []string
	err := filepath.WalkDir(r.data(), func(path string, d fs.DirEntry, err error) error {
		name, relErr := filepath.Rel(r.data(), path)
		if name != "." {
			final = append(final, name)
		}
		if !d.IsDir() {
			temporary = append(temporary, name+".tmp", name+".new")
		}
		return errors.Join(err, relErr)
	})
	if err != nil || len(final) < 8 {
		t.Fatalf("%q, %v", final, err)
	}
	for _, name := range final {
		t.Run(name, func(t *testing.T) {
			data := filepath.Join(t.TempDir(), "data")
			check := plant(t, data, []string{name})
			t.Log(tail(workOn(t, data)))
			check()
		})
	}
	t.Run("unfinished", func(t *testing.T) {
		inside := slices.DeleteFunc(slices.Clone(temporary), func(name string) bool { return !strings.Contains(name, "/") })
		data := filepath.Join(t.TempDir(), "data")
		check := plant(t, data, inside)
		if log := workOn(t, data); !strings.Contains(log, "relay stopped") {
			t.Errorf("the relay did not work:\n%s", tail(log))
		}
		check()
	})
	t.Run("while it runs", func(t *testing.T) {
		r := startRelay(t)
		check := plant(t, r.data(), temporary)
		r.honest().probe(t, waits{})
		eventually(t, "the agents are on the disk", func() bool {
			_, err := os.Stat(filepath.Join(r.data(), "agents.json"))
			return err == nil
		})
		check()
	})
}

// plant puts links of those names into a data dir. The function that it returns looks at where they lead.
func plant(t *testing.T, data string, names []string) (check func()) {
	t.Helper()
	victims := t.TempDir()
	chown := func(path string) {
		t.Helper()
		if err := os.Lchown(path, localUser, localUser); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range names {
		isDir := !strings.Contains(name, ".") && name != "store/lock" && !strings.HasPrefix(name, "store/")
		victim, link := filepath.Join(victims, strings.ReplaceAll(name, "/", "_")), filepath.Join(data, name)
		var err error
		if isDir {
			err = os.Mkdir(victim, 0o755)
		} else {
			err = os.WriteFile(victim, []byte("precious"), 0o644)
		}
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(link), 0o755), os.Symlink(victim, link)); err != nil {
			t.Fatal(err)
		}
		chown(filepath.Dir(link))
		chown(link)
	}
	chown(data)
	return func() { untouched(t, victims) }
}

// untouched looks at what the links lead to.
func untouched(t *testing.T, victims string) {
	t.Helper()
	err := filepath.WalkDir(victims, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Sys().(*syscall.Stat_t).Uid != 0 {
			t.Errorf("%s was given away", path)
		}
		if d.IsDir() {
			if inside, err := os.ReadDir(path); path != victims && (err != nil || len(inside) > 0) {
				t.Errorf("in %s are %v, %v", path, inside, err)
			}
			return nil
		}
		if content, err := os.ReadFile(path); string(content) != "precious" || info.Mode() != 0o644 {
			t.Errorf("%s has %q and mode %v, %v", path, content, info.Mode(), err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// workOn has a relay work on a data dir, and returns its log. It may refuse to start.
func workOn(t *testing.T, data string) string {
	t.Helper()
	r := &relay{t: t, dir: filepath.Dir(data)}
	log, err := os.Create(r.log())
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(relayServer, "--web.listen-address=127.0.0.1:0", "--grpc.listen-address=127.0.0.1:0", "--data.dir="+data)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	worked := false
	eventually(t, "the relay works or refuses to", func() bool {
		select {
		case <-ended:
			return true
		default:
		}
		if found := starts.FindStringSubmatch(r.logged()); found != nil {
			r.web, r.grpc, r.url = found[1], found[2], "http://"+found[1]
			status, _ := r.do(t.Context(), http.MethodPut, "/metrics/job/x", "m 1\n")
			worked = status == http.StatusOK
		}
		return worked
	})
	if worked {
		exec.Command(relayServer, "--data.dir="+data, "agent-certificate", "x", "--out="+t.TempDir()).Run()
		cmd.Process.Signal(syscall.SIGTERM)
	}
	<-ended
	return r.logged()
}
