//go:build linux

package durability_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/gateway"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/middlebox"
	"pushrelay/internal/e2e/program"
)

// formatsWrite is for testdata/formats, which holds what releases of each format have left: what a relay keeps (store,
// agents.json, and from 5 on the ledger, which 6 has in its format 2; from 7 on the store is of proto/storage/v1), a spool and a backup, which from 8 on has the ledger as well, and what there is to be read in them. Another format is added with
//
//	go test ./internal/e2e/durability -run TestFormats -formats.write=8
var formatsWrite = flag.Int("formats.write", 0, "keep what the programs write as the testdata of this format")

// A keptFormat is what is in the files of one format.
type keptFormat struct {
	// Series are those at the relay, Targets the target names of its agent.
	Series  map[string]float64
	Targets []string
	// Journal is the id of the spool's journal, StoreID that of the store that it knows, and Spool what waits for it.
	Journal, StoreID string
	Spool            []keptGroup
	// Refused is a push that the agent refuses without a relay, since it remembers what the relay said; empty for none.
	Refused string `json:",omitempty"`
	// Ledger is what it has of agents that never came; nil for none. BackedUp says that the backup has it, too.
	Ledger   []keptAgent `json:",omitempty"`
	BackedUp bool        `json:",omitempty"`
}

// A keptAgent is what a ledger has of an agent, as agents show tells it.
type keptAgent struct {
	Agent   string `json:"agent"`
	State   string `json:"state"`
	Revoked *struct {
		At time.Time `json:"at"`
	} `json:"revoked"`
	RevokedCertificates []struct {
		Serial string    `json:"serial"`
		At     time.Time `json:"at"`
	} `json:"revoked_certificates"`
	Certificates []struct {
		Serial  string    `json:"serial"`
		From    time.Time `json:"from"`
		To      time.Time `json:"to"`
		By      string    `json:"by"`
		At      time.Time `json:"issued_at"`
		Revoked bool      `json:"revoked"`
	} `json:"certificates"`
}

// shown is what the relay, or its data dir, tells of an agent.
func (h *formatHouse) shown(t *testing.T, name string) (a keptAgent) {
	t.Helper()
	text := program.MustOutput(t, program.Command{Path: program.RelayServer(), Args: []string{"--data.dir=" + h.relay.DataDir, "agents", "show", name, "--output=json"}})
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		t.Fatal(err)
	}
	return a
}

// isOver says that the ledger may have dropped something of the agent, a year and 90 days later.
func (a keptAgent) isOver() bool {
	last := time.Now().AddDate(-1, 0, -90)
	return a.Revoked != nil && a.Revoked.At.Before(last) || len(a.Certificates) > 0 && a.Certificates[0].At.Before(last)
}

// wantLedger wants of all agents what was kept.
func (h *formatHouse) wantLedger(t *testing.T, kept []keptAgent) {
	t.Helper()
	for _, want := range kept {
		if want.isOver() {
			continue
		}
		if diff := cmp.Diff(want, h.shown(t, want.Agent)); diff != "" {
			t.Errorf("what the ledger has of %s (-want +got):\n%s", want.Agent, diff)
		}
	}
}

// fillLedger has certificates issued, revoked and allowed.
func (h *formatHouse) fillLedger(t *testing.T) (kept []keptAgent) {
	t.Helper()
	do := func(args ...string) {
		program.MustOutput(t, program.Command{Path: program.RelayServer(), Args: append([]string{"--data.dir=" + h.relay.DataDir, "agents"}, args...)})
	}
	for _, name := range []string{"site-out", "site-back", "site-copied"} {
		h.relay.Issue(t, name)
	}
	do("revoke", "site-out")
	do("revoke", "site-back")
	do("allow", "site-back")
	do("revoke", "site-copied", "--serial="+h.shown(t, "site-copied").Certificates[0].Serial)
	do("revoke", "site-foreign", "--keep-targets")
	for _, name := range []string{"site-back", "site-copied", "site-foreign", "site-out"} {
		kept = append(kept, h.shown(t, name))
	}
	return kept
}

// A keptGroup is a group of which something waits in a spool.
type keptGroup struct {
	GroupingKey    map[string]string `json:"grouping_key"`
	Changes, Bytes int
	Oldest         time.Time
}

// formatHouse is a relay and an agent whose files are of a format. The agent knows its relay by a name, wherever it runs.
type formatHouse struct {
	relay    *house.Relay
	agent    *house.Agent
	agentDir string
}

func newFormatHouse(t *testing.T) *formatHouse {
	t.Helper()
	h := &formatHouse{agentDir: filepath.Join(t.TempDir(), "agent")}
	web := program.FreeAddress(t)
	h.relay = &house.Relay{Owner: t, URL: "http://" + web, GRPC: program.FreeAddress(t), DataDir: filepath.Join(t.TempDir(), "relay")}
	h.relay.Command = program.Command{Path: program.RelayServer(), Args: []string{
		"--web.listen-address=" + web, "--grpc.listen-address=" + h.relay.GRPC, "--data.dir=" + h.relay.DataDir,
		"--grpc.tls.server-name=relay.example.org", "--agents.forget-after=1000000h",
	}}
	return h
}

// equip makes the agent, when the relay's data dir is as it should be.
func (h *formatHouse) equip(t *testing.T) {
	t.Helper()
	proxy := (&middlebox.CorporateProxy{Hosts: map[string]string{middlebox.RelayName: h.relay.GRPC}}).Start(t)
	h.agent = house.NewAgentVia(t, h.relay, middlebox.RelayName, "site-a", house.ConfigOf("127.0.0.1:9100", "metrics", "more"),
		"--relay.proxy-url=http://"+proxy.Address, "--data.dir="+h.agentDir, "--push.wait=5s")
}

func (h *formatHouse) spool(t *testing.T) (relays []struct {
	StoreID string `json:"store_id"`
	Pending int
}, groups []keptGroup,
) {
	t.Helper()
	var answer struct {
		Data struct {
			Relays []struct {
				StoreID string `json:"store_id"`
				Pending int
			}
			Groups []keptGroup
		}
	}
	if err := json.Unmarshal([]byte(client.MustGet(t, h.agent.URL+"/api/v1/spool")), &answer); err != nil {
		t.Fatal(err)
	}
	return answer.Data.Relays, answer.Data.Groups
}

func (h *formatHouse) journal(t *testing.T) string {
	t.Helper()
	var answer struct {
		Data struct{ Spool struct{ Journal string } }
	}
	if err := json.Unmarshal([]byte(client.MustGet(t, h.agent.URL+"/api/v1/status")), &answer); err != nil {
		t.Fatal(err)
	}
	return answer.Data.Spool.Journal
}

func (h *formatHouse) targets(t *testing.T) (names []string) {
	t.Helper()
	for _, a := range h.relay.Agents(t) {
		for _, target := range a.Targets {
			names = append(names, a.Agent+"/"+target.Target)
		}
	}
	return names
}

// pushed is what the programs are told before their files are kept.
var pushed = []struct{ method, path, body string }{
	{http.MethodPut, "/metrics/job/direct/instance/a", "# HELP requests_total All of them.\n# TYPE requests_total counter\nrequests_total{code=\"200\"} 1027\nrequests_total{code=\"500\"} 3\n# TYPE load gauge\nload 0.25\n"},
	{http.MethodPost, "/metrics/job/direct/instance/a", "# TYPE seconds histogram\nseconds_bucket{le=\"0.1\"} 1\nseconds_bucket{le=\"+Inf\"} 2\nseconds_sum 3.5\nseconds_count 2\n# TYPE load gauge\nload 0.5\n"},
	{http.MethodPut, "/metrics/job@base64/cGF0aC93aXRoL3NsYXNoZXM/empty@base64/=", "# TYPE quantiles summary\nquantiles{quantile=\"0.5\"} 1\nquantiles_sum 2\nquantiles_count 3\n"},
	{http.MethodPut, "/metrics/job/gone", "short_lived 1\n"},
	{http.MethodDelete, "/metrics/job/gone", ""},
	{http.MethodPut, "/metrics/job/refused", "# TYPE load counter\nload 1\n"}, // sets the failure time
}

// writeFormat lets the programs write what the testdata of a format is, into dir.
func writeFormat(t *testing.T, dir string) {
	t.Helper()
	h := newFormatHouse(t)
	h.relay.Start(t)
	for _, p := range pushed {
		if _, err := client.Fetch(p.method, h.relay.URL+p.path, strings.NewReader(p.body)); err != nil {
			t.Fatal(err)
		}
	}
	wantStatus(t, http.StatusOK, declare(t, h.relay.URL, "/job/living", "living 1\n", "Push-TTL", "99y", "Push-Every", "98y"))
	wantStatus(t, http.StatusOK, declare(t, h.relay.URL, "/job/broken", "broken 1\n", "Push-Failed", "exit status 2", "Idempotency-Key", "k"))
	h.equip(t)
	h.agent.Start(t)
	h.agent.Applied(t, "replaced", 1)
	h.agent.Applied(t, "deleted", 2)
	h.agent.Applied(t, "stays", 3)
	h.agent.Applied(t, "once", 4)
	if got := h.agent.Ask(t, http.MethodDelete, "once", 0); got.Status != http.StatusAccepted || got.Header.Get("X-Relay-Spooled") != "" {
		t.Fatalf("DELETE: %d %s", got.Status, got.Body)
	}
	h.agent.Kill(t) // It does not know for good that the relay has deleted the group.
	var kept keptFormat
	kept.Ledger, kept.BackedUp = h.fillLedger(t), true
	kept.Series, kept.Targets = pushedSeries(t, h.relay.URL), h.targets(t)
	h.relay.Stop(t)
	h.agent.StartAlone(t)
	for _, body := range []string{"replaced 10\n", "added 11\n"} {
		got, err := client.Fetch(http.MethodPost, h.agent.URL+"/metrics/job/replaced", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		house.WantKept(t, got)
	}
	for range 2 {
		wantStatus(t, http.StatusAccepted, declare(t, h.agent.URL, "/job/counted", "# TYPE counted counter\ncounted 1\n", "Push-Operation", "add", "Push-TTL", "99y"))
	}
	h.agent.Ask(t, http.MethodDelete, "deleted", 0)
	h.agent.Kept(t, "waits", 5)
	relays, groups := h.spool(t)
	kept.Journal, kept.StoreID, kept.Spool = h.journal(t), relays[0].StoreID, groups
	kept.Refused = "{\"no.legacy.name\"} 1\n"
	h.agent.Stop(t)

	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	program.MustOutput(t, program.Command{Path: program.RelayServer(), Dir: ".", Args: []string{"--data.dir=" + h.relay.DataDir, "backup", "--to=" + filepath.Join(dir, "backup")}})
	program.MustOutput(t, program.Command{Path: "tar", Dir: ".", Args: []string{"-czf", filepath.Join(dir, "relay.tar.gz"), "-C", h.relay.DataDir, "--exclude=lock", "store", "agents.json", "ledger.jsonl", "ledger.made"}})
	program.MustOutput(t, program.Command{Path: "tar", Dir: ".", Args: []string{"-czf", filepath.Join(dir, "agent.tar.gz"), "-C", h.agentDir, "--exclude=lock", "spool"}})
	text, err := json.MarshalIndent(kept, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	client.WriteFile(t, filepath.Join(dir, "kept.json"), string(text)+"\n")
}

// declare posts with headers, name after name and value, and returns the status.
func declare(t *testing.T, url, path, body string, headers ...string) int {
	t.Helper()
	r := gateway.Post(path, body)
	for pair := range slices.Chunk(headers, 2) {
		r = r.With(pair[0], pair[1])
	}
	got, err := (&gateway.Gateway{URL: url}).Send(r)
	if err != nil {
		t.Fatal(err)
	}
	return got.Status
}

func wantStatus(t *testing.T, want, got int) {
	t.Helper()
	if got != want {
		t.Fatalf("answered %d, want %d", got, want)
	}
}

// TestFormats: what each format has left is read by this release, whole: the groups with their times, the known agents, what was
// decided of each agent's changes, and what waits in a spool.
func TestFormats(t *testing.T) {
	t.Parallel()
	dirs, err := filepath.Glob(filepath.Join("testdata", "formats", "*"))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no formats: %v", err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			readFormat(t, dir)
		})
	}
	t.Run("now", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		if *formatsWrite > 0 {
			dir = filepath.Join("testdata", "formats", strconv.Itoa(*formatsWrite))
		}
		writeFormat(t, dir)
		readFormat(t, dir)
	})
}

// readFormat lets the programs read what writeFormat wrote.
func readFormat(t *testing.T, dir string) {
	t.Helper()
	var kept keptFormat
	if err := json.Unmarshal([]byte(client.ReadFile(t, filepath.Join(dir, "kept.json"))), &kept); err != nil {
		t.Fatal(err)
	}
	h := newFormatHouse(t)
	unpack(t, filepath.Join(dir, "relay.tar.gz"), h.relay.DataDir)
	unpack(t, filepath.Join(dir, "agent.tar.gz"), h.agentDir)
	program.MustOutput(t, program.Command{Path: program.RelayServer(), Args: []string{"--data.dir=" + h.relay.DataDir, "init"}}) // Keys are not in the testdata.
	h.wantLedger(t, kept.Ledger)
	h.equip(t)
	h.agent.StartAlone(t)
	relays, groups := h.spool(t)
	if diff := cmp.Diff(kept.Spool, groups); diff != "" {
		t.Errorf("what waits in the spool (-want +got):\n%s", diff)
	}
	if len(relays) != 1 || relays[0].StoreID != kept.StoreID || h.journal(t) != kept.Journal {
		t.Errorf("the spool knows %+v, and is of journal %s; want the store %s and the journal %s", relays, h.journal(t), kept.StoreID, kept.Journal)
	}
	if kept.Refused != "" {
		if got, err := client.Fetch(http.MethodPut, h.agent.URL+"/metrics/job/refused", strings.NewReader(kept.Refused)); err != nil || got.Status != http.StatusBadRequest {
			t.Errorf("a push that the relay does not take: %d %s, %v, want 400", got.Status, got.Body, err)
		}
	}
	h.agent.Stop(t)

	h.relay.Start(t)
	samePushed(t, "the store", kept.Series, pushedSeries(t, h.relay.URL))
	if diff := cmp.Diff(kept.Targets, h.targets(t)); diff != "" {
		t.Errorf("targets of the known agents (-want +got):\n%s", diff)
	}
	h.wantLedger(t, kept.Ledger)
	h.relay.Stop(t) // and once more, as this release has left it
	h.relay.Start(t)
	h.wantLedger(t, kept.Ledger)
	samePushed(t, "the store after another start", kept.Series, pushedSeries(t, h.relay.URL))

	h.agent.Start(t)
	h.agent.WantDrained(t)
	h.wantDelivered(t, kept)
	h.agent.Stop(t)
	h.relay.Stop(t)

	other := newFormatHouse(t)
	said := program.MustOutput(t, program.Command{Path: program.RelayServer(), Dir: ".", Args: []string{"--data.dir=" + other.relay.DataDir, "restore", "--from=" + filepath.Join(dir, "backup")}})
	if strings.Contains(said, "has no ledger") == kept.BackedUp {
		t.Errorf("restore says %q", said)
	}
	other.relay.Start(t)
	if kept.BackedUp {
		other.wantLedger(t, kept.Ledger)
	}
	samePushed(t, "the backup", kept.Series, pushedSeries(t, other.relay.URL))
	other.relay.Stop(t)
}

// wantDelivered wants what waited at the relay, with its time, and what it had decided before not decided again.
func (h *formatHouse) wantDelivered(t *testing.T, kept keptFormat) {
	t.Helper()
	want := maps.Clone(kept.Series)
	maps.DeleteFunc(want, func(series string, _ float64) bool { return strings.Contains(series, `job="deleted"`) })
	want[house.SeriesOfJob("waits")] = 5
	want[house.SeriesOfJob("replaced")] = 10
	want[`added{agent="site-a", instance="", job="replaced"}`] = 11
	got := pushedSeries(t, h.relay.URL)
	isTime := func(series string, _ float64) bool { return strings.HasPrefix(series, "push_") }
	for _, g := range kept.Spool {
		job := g.GroupingKey["job"]
		if job == "counted" {
			want[house.SeriesOfJob("counted")] = 2 // both were added
		}
		if i := slices.Index([]string{"waits", "replaced"}, job); i < 0 {
			continue
		}
		series := fmt.Sprintf(`push_time_seconds{agent="site-a", instance="", job=%q}`, job)
		if at, pushed := got[series], float64(g.Oldest.UnixMilli())/1e3; at < pushed-1 || at > pushed+60 {
			t.Errorf("%s is %v, and it was pushed at %v", series, at, pushed)
		}
	}
	maps.DeleteFunc(want, isTime)
	maps.DeleteFunc(got, isTime)
	samePushed(t, "what was delivered", want, got)
	client.WantSeries(t, h.relay.URL, `relay_changes_total{result="duplicate"}`, 1)
	client.WantSeries(t, h.agent.URL, "relay_agent_journal_resets_total", 0)
}

// unpack unpacks an archive into a directory, which it makes.
func unpack(t *testing.T, archive, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	program.MustOutput(t, program.Command{Path: "tar", Dir: ".", Args: []string{"-xzf", archive, "-C", dir}})
}
