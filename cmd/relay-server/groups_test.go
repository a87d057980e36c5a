package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/commandline"
	"pushrelay/internal/relay"
	"pushrelay/internal/relayapi"
	"pushrelay/internal/relaytest"
)

// command runs the program and returns what it wrote and its exit code. Standard input of a test is nobody who could be asked.
func command(args ...string) (stdout, stderr string, code int) {
	var out, errs bytes.Buffer
	code = run(args, &out, &errs)
	return out.String(), errs.String(), code
}

func TestGroups(t *testing.T) {
	relay := relaytest.Start(t, relaytest.Options(t))
	t.Setenv("RELAY_SERVER_ADDRESS", relay.URL)
	for _, path := range []string{"/metrics/job/a/team/x", "/metrics/job/b/team/x", "/metrics/job/c/team/y/agent/site-a"} {
		if status, body := relaytest.Do(t, "PUT", relay.URL+path, "m 1\n"); status != 200 {
			t.Fatal(status, body)
		}
	}
	tests := []struct {
		name   string
		args   string
		code   int
		stdout string
		stderr string
	}{
		{"list", `list --match={team="x"}`, 0, `{job="b",team="x"}`, ""},
		{"list with a limit", `list --match={job=~".+"} --limit=1`, 0, "… of 3 groups", ""},
		{"list none", `list --match={job="z"}`, 0, "no group matches", ""},
		{"list what is old", `list --match={job=~".+"} --pushed-before=1h`, 0, "no group matches", ""},
		{"list what was pushed", `list --match={job="a"} --pushed-before=2100-01-01T00:00:00Z`, 0, `{job="a",team="x"}`, ""},
		{"list a state", `list --match={job=~".+"} --state=failed`, 0, "no group matches", ""},
		{"bad state", `list --match={job=~".+"} --state=odd`, 1, "", `state is "odd", want one of expired, failed, late, quarantined`},
		{"bad selector", `list --match={job=}`, 1, "", "cannot be read"},
		{"no selector", `list`, 2, "", "--match"},
		{"bad limit", `list --match={job="a"} --limit=-1`, 2, "", "--limit is -1"},
		{"bad address", `list --match={job="a"} --relay.address=relay`, 2, "", "--relay.address or $RELAY_SERVER_ADDRESS"},
		{"nobody there", `list --match={job="a"} --relay.address=http://127.0.0.1:1`, 3, "", "--relay.address or $RELAY_SERVER_ADDRESS says where"},
		{"dry run", `delete --match={job=~"a|c"} --dry-run`, 0, "2 groups would be deleted\n", ""},
		{"dry run tells of agents", `delete --match={job=~"a|c"} --dry-run`, 0, "1 of them are of agents: groups of agents come back", ""},
		{"not specific", `delete --match={taem!="x"} --yes`, 1, "", "also matches groups that have none of its labels"},
		{"delete", `delete --match={job=~"a|c"} --yes`, 0, "groups that were deleted: 2 of 2\n", ""},
		{"what is left", `list --match={job=~".+"}`, 0, `{job="b",team="x"}`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			stdout, stderr, code := command(append([]string{"groups"}, strings.Fields(tt.args)...)...)
			if code != tt.code || !strings.Contains(stdout, tt.stdout) || !strings.Contains(stderr, tt.stderr) || tt.stderr == "" && stderr != "" {
				t.Errorf("groups %s: exit code %d, want %d\nstdout %s\nstderr %s", tt.args, code, tt.code, stdout, stderr)
			}
		})
	}
	if _, body := relaytest.Get(t, relay.URL+"/metrics?match[]=%7Bteam=%22x%22%7D"); !strings.Contains(body, `m{instance="",job="b",team="x"} 1`) || strings.Contains(body, "relay_") {
		t.Errorf("the filtered scrape:\n%s", body)
	}
}

// TestGroupsOfTheDataDir: who may use the control socket of a relay needs neither its address nor its admin API.
func TestGroupsOfTheDataDir(t *testing.T) {
	opts := relaytest.Options(t)
	opts.EnableAdminAPI = false
	running := relaytest.Start(t, opts)
	for _, path := range []string{"/metrics/job/a/team/x", "/metrics/job/b/team/x", "/metrics/job/c/team/y/agent/site-a"} {
		if status, body := relaytest.Do(t, "PUT", running.URL+path, "m 1\n"); status != 200 {
			t.Fatal(status, body)
		}
	}
	on := func(args ...string) (stdout, stderr string, code int) {
		return command(append([]string{"--data.dir=" + opts.DataDir, "groups"}, args...)...)
	}
	stdout, stderr, code := on("list", `--match={job=~".+"}`, "--output=json")
	var listed []relayapi.Group
	if err := json.Unmarshal([]byte(stdout), &listed); err != nil || code != 0 || stderr != "" || len(listed) != 3 || listed[0].Agent != "site-a" || listed[1].Labels["job"] != "a" {
		t.Errorf("list: %d %v\n%s%s", code, err, stdout, stderr)
	}
	if stdout, _, code := on("list", `--match={job="z"}`, "--output=json"); code != 0 || stdout != "[]\n" {
		t.Errorf("list none: %d %s", code, stdout)
	}
	if stdout, _, code := on("list", `--match={job=~".+"}`, "--limit=2", "--output=json"); code != 0 || strings.Count(stdout, `"job":`) != 2 {
		t.Errorf("list some: %d %s", code, stdout)
	}
	if _, stderr, code := on("delete", `--match={job="a"}`, "--output=json"); code != 2 || !strings.Contains(stderr, "--yes deletes without asking") {
		t.Errorf("delete, unasked: %d %s", code, stderr)
	}
	var deleted relayapi.Deletion
	for _, tt := range []struct {
		flag string
		want relayapi.Deletion
	}{
		{"--dry-run", relayapi.Deletion{DryRun: true, Selected: 2, Deleted: 2}},
		{"--yes", relayapi.Deletion{Selected: 2, Deleted: 2}},
	} {
		stdout, stderr, code := on("delete", `--match={team="x"}`, tt.flag, "--output=json")
		if err := json.Unmarshal([]byte(stdout), &deleted); err != nil || code != 0 || stderr != "" || len(deleted.Groups) != 2 {
			t.Errorf("delete %s: %d %v\n%s%s", tt.flag, code, err, stdout, stderr)
		}
		if deleted.Groups = nil; !reflect.DeepEqual(deleted, tt.want) {
			t.Errorf("delete %s: %+v, want %+v", tt.flag, deleted, tt.want)
		}
	}
	if stdout, _, code := on("list", `--match={job=~".+"}`); code != 0 || !strings.Contains(stdout, `{job="c",agent="site-a",team="y"}`) || strings.Contains(stdout, "team=\"x\"") {
		t.Errorf("list what is left: %d %s", code, stdout)
	}
	if stdout, _, code := on("list", "--relay.address="+running.URL, `--match={job=~".+"}`); code != 0 || !strings.Contains(stdout, `{job="c",agent="site-a",team="y"}`) {
		t.Errorf("list over HTTP: %d %s", code, stdout)
	}
	running.Stop()
	if _, stderr, code := on("list", `--match={job="a"}`); code != 3 || !strings.Contains(stderr, "no relay runs on it, and this needs one") || !strings.Contains(stderr, "--relay.address") {
		t.Errorf("list without a relay: %d %s", code, stderr)
	}
	if _, stderr, code := command("--data.dir="+t.TempDir(), "groups", "list", `--match={job="a"}`); code != 1 || !strings.Contains(stderr, "is not that of a relay") {
		t.Errorf("list on a mistyped data dir: %d %s", code, stderr)
	}
	if _, stderr, code := command("--data.dir=", "groups", "list", `--match={job="a"}`); code != 1 || !strings.Contains(stderr, "is asked at --relay.address") {
		t.Errorf("list in memory: %d %s", code, stderr)
	}
}

// TestBackupBesideARelay: the relay hands out what it has; without one what lies there is taken.
func TestBackupBesideARelay(t *testing.T) {
	opts := relaytest.Options(t)
	running := relaytest.Start(t, opts)
	if status, body := relaytest.Do(t, "PUT", running.URL+"/metrics/job/a", "m 1\n"); status != 200 {
		t.Fatal(status, body)
	}
	file := filepath.Join(t.TempDir(), "backup")
	back := func(flags ...string) (relay.Backup, string) {
		t.Helper()
		stdout, stderr, code := command(append([]string{"--data.dir=" + opts.DataDir, "backup", "--to=" + file}, flags...)...)
		var done relay.Backup
		if code != 0 || stderr != "" {
			t.Fatalf("backup: %d %s", code, stderr)
		}
		if len(flags) > 0 {
			if err := json.Unmarshal([]byte(stdout), &done); err != nil {
				t.Fatalf("backup: %v\n%s", err, stdout)
			}
		}
		return done, stdout
	}
	want := relay.Backup{File: file, Groups: 1, Series: 1, Ledger: &relay.LedgerSummary{}, Source: relay.FromRelay}
	if done, _ := back("--output=json"); !cmp.Equal(done, want) {
		t.Errorf("backup: %+v, want %+v", done, want)
	}
	if _, text := back(); text != file+": 1 group, 1 series; a ledger of 0 certificates, 0 revocations\n" {
		t.Errorf("backup for people: %s", text)
	}
	running.Stop()
	want.Source = relay.FromFiles
	if done, _ := back("--output=json"); !cmp.Equal(done, want) {
		t.Errorf("backup of the files: %+v, want %+v", done, want)
	}
	restored := filepath.Join(t.TempDir(), "new")
	if stdout, stderr, code := command("--data.dir="+restored, "restore", "--from="+file); code != 0 || !strings.Contains(stdout, "1 group, 1 series") {
		t.Errorf("restore: %d %s%s", code, stdout, stderr)
	}
	if _, stderr, code := command("--data.dir="+t.TempDir(), "backup", "--to="+file); code != 1 || !strings.Contains(stderr, "holds no store") {
		t.Errorf("backup of nothing: %d %s", code, stderr)
	}
}

// TestGroupsWithoutAdminAPI: they can be listed over HTTP, and not deleted.
func TestGroupsWithoutAdminAPI(t *testing.T) {
	opts := relaytest.Options(t)
	opts.EnableAdminAPI = false
	relay := relaytest.Start(t, opts)
	address := "--relay.address=" + relay.URL
	if stdout, stderr, code := command("groups", "list", address, `--match={job="a"}`); code != 0 || stdout != "no group matches\n" {
		t.Errorf("list: %d %s %s", code, stdout, stderr)
	}
	if _, stderr, code := command("groups", "delete", address, `--match={job="a"}`, "--yes"); code != 1 || !strings.Contains(stderr, "--web.enable-admin-api") {
		t.Errorf("delete: %d %s", code, stderr)
	}
}

func TestConfirmed(t *testing.T) {
	for answer, want := range map[string]bool{"yes\n": true, " yes \n": true, "y\n": false, "no\n": false, "\n": false, "": false, "yes": false, "yes please\n": false} {
		if got := confirmed(strings.NewReader(answer), &bytes.Buffer{}); got != want {
			t.Errorf("confirmed(%q) = %v, want %v", answer, got, want)
		}
	}
}

// TestGroupsForPeople: labels that control a terminal do not reach it.
func TestGroupsForPeople(t *testing.T) {
	if got, want := labelsText(map[string]string{"team": "a\x1b[2J\"", "job": "j", "b\x1b": ""}), `{job="j",b ="",team="a\x1b[2J\""}`; got != want {
		t.Errorf("labelsText = %s, want %s", got, want)
	}
	if got := commandline.Plain("a\nb\x1b[2J"); got != "a b [2J" {
		t.Errorf("plain = %q", got)
	}
}
