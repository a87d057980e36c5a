package fileowner_test

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"pushrelay/internal/fileowner"
	"pushrelay/internal/need"
)

// fileInNamespace names the variable with the file that this program reads when it runs in a user namespace.
const fileInNamespace = "FILEOWNER_TEST_FILE"

// TestUsersThatAreHidden: where the system shows all other users as one, as in a unit with PrivateUsers=, a link of that one to a file of
// that one is of nobody in particular, and refused. Those of root are followed.
func TestUsersThatAreHidden(t *testing.T) {
	if file := os.Getenv(fileInNamespace); file != "" {
		content, err := fileowner.ReadFile(file)
		t.Logf("read %q, %v", content, err)
		return
	}
	needsRoot(t)
	p := newPlace(t)
	for _, user := range []int{alice, bob} {
		file := p.file(map[int]string{alice: "alices", bob: "bobs"}[user], user)
		p.must(os.Chmod(file, 0o644))
	}
	for link, want := range map[string]string{
		p.link("own", "alices", alice):   "cannot be told from others",
		p.link("planted", "bobs", alice): "cannot be told from others",
		p.link("roots", "alices", 0):     `read "the content of alices"`,
		p.path("bobs"):                   `read "the content of bobs"`,
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestUsersThatAreHidden$", "-test.v")
		cmd.Env = append(os.Environ(), fileInNamespace+"="+link)
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWUSER, UidMappings: []syscall.SysProcIDMap{{Size: 1}}, GidMappings: []syscall.SysProcIDMap{{Size: 1}},
		}
		out, err := cmd.CombinedOutput()
		if err != nil && len(out) == 0 {
			need.Missing(t, "no user namespace can be made here: %v", err)
		}
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v\n%s\nwant %s", link, err, out, want)
		}
	}
}
