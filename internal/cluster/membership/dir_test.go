package membership_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/cluster/membership"
)

var dialer = net.Dialer{Timeout: 5 * time.Second}

// TestWhatIsNoMember: a data dir of a relay is none, and one that was a member's is not taken for that of a relay.
func TestWhatIsNoMember(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"", t.TempDir(), filepath.Join(t.TempDir(), "missing")} {
		if d, err := membership.Open(dir, "v1"); d != nil || err != nil {
			t.Errorf("%q: %v, %v", dir, d, err)
		}
	}
	for _, damage := range []struct{ file, content string }{
		{"member.json", ""}, {"member.json", "{"}, {"member.json", `{"version": 99, "release": "v9"}`}, {"peer-ca.crt", ""}, {"peer-ca.crt", "x"}, {"peer-ca.key", "x"},
	} {
		dir := found(t, "a")
		file := filepath.Join(dir, "cluster", damage.file)
		err := os.Remove(file)
		if damage.content != "" {
			err = os.WriteFile(file, []byte(damage.content), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if d, err := membership.Open(dir, "v1"); d != nil || err == nil || !strings.Contains(err.Error(), "never begins alone") {
			t.Errorf("%s = %q: %v, %v", damage.file, damage.content, d, err)
		}
	}
}

// TestFoundingChecks: what cannot be a member, or cannot be dialled, is refused, and nothing is left.
func TestFoundingChecks(t *testing.T) {
	t.Parallel()
	good := membership.Addresses{Peer: "a.example:9096", Link: "a.example:9095", Web: "a.example:9091"}
	for _, c := range []struct {
		name, member, listen string
		addresses            membership.Addresses
		want                 string
	}{
		{"no name", "", "", good, "member name is empty"},
		{"dots", "a.b", "", good, "has '.' in it"},
		{"capitals", "A", "", good, "does not begin and end with"},
		{"long", strings.Repeat("a", 64), "", good, "64 characters"},
		{"no port", "a", "", membership.Addresses{Peer: "a.example", Link: good.Link, Web: good.Web}, `the peer address "a.example" is not HOST:PORT`},
		{"all addresses", "a", "", membership.Addresses{Peer: good.Peer, Link: "0.0.0.0:9095", Web: good.Web}, `the link address "0.0.0.0:9095" is none that other members can dial`},
		{"no web address", "a", "", membership.Addresses{Peer: good.Peer, Link: good.Link}, `the web address "" is not`},
		{"a name to listen on", "a", "a.example:9096", good, "the listen address"},
	} {
		dir := t.TempDir()
		_, err := membership.Found(membership.Founding{DataDir: dir, Name: c.member, Addresses: c.addresses, Listen: c.listen})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%s: %v is left", c.name, left)
		}
	}
	if _, err := membership.Found(membership.Founding{DataDir: found(t, "a"), Name: "b", Addresses: good}); err == nil || !strings.Contains(err.Error(), `this is member "a" of a cluster already`) {
		t.Errorf("twice: %v", err)
	}
}

// TestOtherDirs: a data dir that was wiped, copied or put back is not started, whether the cluster can be asked or not.
func TestOtherDirs(t *testing.T) {
	t.Parallel()
	a := start(t, found(t, "a"))
	b := joined(t, a, "b")
	joined(t, a, "c") // without b a majority answers
	b.stop()
	older := snapshot(t, b.dataDir)
	b = start(t, b.dataDir)
	b.stop()

	copied := copyTree(t, b.dataDir)
	_, err := tryStart(t, copied)
	wantError(t, err, membership.ErrOther)
	if err == nil || !strings.Contains(err.Error(), "it was copied or put back") || !strings.Contains(err.Error(), "relay-server cluster remove b") {
		t.Errorf("a copy: %v", err)
	}

	wiped := filepath.Join(b.dataDir, "cluster", "etcd")
	aside := filepath.Join(t.TempDir(), "etcd")
	move(t, wiped, aside)
	if _, err = tryStart(t, b.dataDir); !errors.Is(err, membership.ErrOther) || !strings.Contains(err.Error(), "was wiped") {
		t.Errorf("wiped: %v", err)
	}
	move(t, aside, wiped)

	// A snapshot of the whole disk brings the very files back.
	newer := snapshot(t, b.dataDir)
	older.put(t)
	d := open(t, b.dataDir)
	if err := d.Prepare(t.Context(), membership.Peers{Dir: d}.Confirm); !errors.Is(err, membership.ErrOther) {
		t.Errorf("put back, before its etcd is started: %v", err)
	}
	if _, err = tryStart(t, b.dataDir); !errors.Is(err, membership.ErrOther) || !strings.Contains(err.Error(), "it is older than what the member had last") {
		t.Errorf("put back: %v", err)
	}
	newer.put(t)
	if err := os.Remove(filepath.Join(b.dataDir, "cluster", "mark.json")); err != nil {
		t.Fatal(err)
	}
	if _, err = tryStart(t, b.dataDir); !errors.Is(err, membership.ErrOther) {
		t.Errorf("without a mark: %v", err)
	}
}

// TestPutBackAlone: where nobody could be asked before the start, what was put back is known once the member is up.
func TestPutBackAlone(t *testing.T) {
	t.Parallel()
	a := start(t, found(t, "a"))
	a.stop()
	older := snapshot(t, a.dataDir)
	a = start(t, a.dataDir)
	a.stop()
	older.put(t)
	if _, err := tryStart(t, a.dataDir); !errors.Is(err, membership.ErrOther) || !strings.Contains(err.Error(), "it is older") {
		t.Errorf("put back: %v", err)
	}
	a.dir = open(t, a.dataDir)
	if _, err := a.dir.ForceBegin(); err != nil {
		t.Fatal(err)
	}
	start(t, a.dataDir)
}

// TestImportBeginsAgain: a member that ends before its import is done begins it again, with nothing of the first.
func TestImportBeginsAgain(t *testing.T) {
	t.Parallel()
	dir := found(t, "a")
	// As tryStart does, but for Done.
	a := start(t, dir)
	if _, err := a.engine.Client().Put(t.Context(), "/half", "imported"); err != nil {
		t.Fatal(err)
	}
	a.stop()
	member := filepath.Join(dir, "cluster", "member.json")
	text, err := os.ReadFile(member)
	if err != nil {
		t.Fatal(err)
	}
	pending := strings.Replace(string(text), `"joined"`, `"pending": "import", "joined"`, 1)
	if err := os.WriteFile(member, []byte(pending), 0o600); err != nil {
		t.Fatal(err)
	}
	a = start(t, dir)
	if has(t, a, "/half") {
		t.Error("what the first import wrote is still there")
	}
	if !has(t, a, "/pushrelay/members/a") {
		t.Error("the member is not listed")
	}
}

// shot is what files of a mark and of member.json had in them, with the files themselves: as a snapshot of a disk has them.
type shot struct {
	mark    string
	content []byte
}

func snapshot(t *testing.T, dataDir string) shot {
	t.Helper()
	mark := filepath.Join(dataDir, "cluster", "mark.json")
	content, err := os.ReadFile(mark)
	if err != nil {
		t.Fatal(err)
	}
	return shot{mark, content}
}

// put puts the generation back into the file that is there, so that which file it is does not tell.
func (s shot) put(t *testing.T) {
	t.Helper()
	now, err := os.ReadFile(s.mark)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(now), generationOf(now), generationOf(s.content), 1)
	if err := os.WriteFile(s.mark, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func generationOf(text []byte) string {
	_, after, _ := strings.Cut(string(text), `"generation":"`)
	generation, _, _ := strings.Cut(after, `"`)
	return generation
}

func move(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}
