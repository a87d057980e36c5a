package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/model"

	"pushrelay/internal/apiclient"
	"pushrelay/internal/commandline"
	"pushrelay/internal/relay"
	"pushrelay/internal/relayapi"
	"pushrelay/internal/selector"
)

// Exit codes of the commands that speak to a running relay.
const (
	exitOK      = 0
	exitRefused = 1 // refused, or not confirmed: the same again will not help
	exitUsage   = 2 // of the command line
	exitLater   = 3 // the relay cannot be reached, or cannot do it now
	exitChanged = 4 // some groups were left, since they changed meanwhile
)

const (
	// pageSize is how many groups are asked for at once.
	pageSize = 1000
	// listPatience is how long a page may take, and deletePatience a deletion: 100,000 groups on a slow disk.
	listPatience   = 30 * time.Second
	deletePatience = 30 * time.Minute
	// namesShown is how many groups are named before somebody confirms that they are deleted.
	namesShown = 10
)

const (
	groupsHelp = `List or delete groups of a running relay, by Prometheus' matchers on their grouping labels, such as --match='{job="backup",instance=~"db.*"}'. The relay is the one that runs on --data.dir, for root and the relay's user; or that of --relay.address.`
	listHelp   = `List the groups that a selector matches: labels, last push, series, states.

Example: sudo relay-server --data.dir=/var/lib/pushrelay groups list --match='{job="backup"}'

Exit codes: 0 listed, also if there are none; 1 the relay refuses; 2 wrong command line; 3 the relay cannot be reached, or cannot say now.`
	deleteHelp = `Delete the groups that a selector matches, each if it has not changed meanwhile. At a --relay.address the relay needs --web.enable-admin-api. Groups of agents come back with the agent's next push to them.

Example: sudo relay-server --data.dir=/var/lib/pushrelay groups delete --match='{job="backup"}' --pushed-before=30d --dry-run

Exit codes: 0 deleted, also if there were none; 1 the relay refuses, or nobody confirmed; 2 wrong command line; 3 the relay cannot be reached, or cannot go on now; 4 some were left, because they were pushed to meanwhile.`
)

// groupsCommands speak to a running relay about its groups.
type groupsCommands struct {
	list, delete    *kingpin.CmdClause
	address, output *string
	limit           *int
	dryRun, yes     *bool
	queries         map[string]*queryFlags // by full command
}

// groupsOfRelay are those of a running relay, wherever it is asked.
type groupsOfRelay interface {
	Groups(ctx context.Context, query url.Values) (relayapi.Page, error)
	Delete(ctx context.Context, query url.Values) (relayapi.Deletion, error)
}

// queryFlags say which groups are meant.
type queryFlags struct {
	match               *[]string
	pushedBefore, state string
}

func newGroupsCommands(app *kingpin.Application) *groupsCommands {
	groups := app.Command("groups", groupsHelp)
	c := &groupsCommands{list: groups.Command("list", listHelp), delete: groups.Command("delete", deleteHelp)}
	c.address = groups.Flag("relay.address", "Where the relay listens: http://[USER:PASSWORD@]HOST:PORT, https://…, with its route prefix if it has one, or unix:PATH (default: the control socket in --data.dir, and where no relay runs on the default data dir "+relayapi.DefaultAddress+").").
		Envar("RELAY_SERVER_ADDRESS").PlaceHolder("ADDRESS").String()
	c.output = outputFlag(groups)
	c.limit = c.list.Flag("limit", "List at most so many groups; 0 for all.").Default("0").Int()
	c.dryRun = c.delete.Flag("dry-run", "Only say what would be deleted.").Bool()
	c.yes = c.delete.Flag("yes", "Do not ask.").Bool()
	c.queries = map[string]*queryFlags{c.list.FullCommand(): newQueryFlags(c.list), c.delete.FullCommand(): newQueryFlags(c.delete)}
	return c
}

func newQueryFlags(c *kingpin.CmdClause) *queryFlags {
	f := &queryFlags{match: c.Flag("match", `Selector on the grouping labels, such as {job="backup"} (repeatable: any of them).`).Required().PlaceHolder("SELECTOR").Strings()}
	commandline.Text(c.Flag("pushed-before", "Only groups without a successful push since: a time such as 2026-11-30T04:00:00Z, or how long ago, such as 7d.").PlaceHolder("TIME"), &f.pushedBefore)
	commandline.Text(c.Flag("state", "Only groups in this state: "+relayapi.StateLate+" (a push was expected before now), "+relayapi.StateFailed+" (the last push was rejected, or was that of a job that failed), "+relayapi.StateExpired+" (what was pushed is no longer true) or "+relayapi.StateQuarantined+".").PlaceHolder("STATE"), &f.state)
	return f
}

// query returns the parameters of the route.
func (f *queryFlags) query(now time.Time) url.Values {
	v := url.Values{selector.Parameter: *f.match}
	if text := f.pushedBefore; text != "" {
		if ago, err := model.ParseDuration(text); err == nil {
			text = now.Add(-time.Duration(ago)).UTC().Format(time.RFC3339Nano)
		}
		v.Set(relayapi.ParamPushedBefore, text)
	}
	if f.state != "" {
		v.Set(relayapi.ParamState, f.state)
	}
	return v
}

// has says whether the command is one of these.
func (c *groupsCommands) has(command string) bool { return c.queries[command] != nil }

// relay returns the groups that are asked for: of the relay at --relay.address, or of the one that runs on the data dir. Who gave neither, and runs
// none on the default data dir, means the one that listens where a relay does by default.
func (c *groupsCommands) relay(ctx context.Context, dataDir string, dataDirAsked bool) (groupsOfRelay, error) {
	address := *c.address
	if address == "" {
		if dataDirAsked || relay.Listens(ctx, dataDir) {
			return relay.GroupsOf(dataDir)
		}
		address = relayapi.DefaultAddress
	}
	client, err := relayapi.New(address)
	if err != nil {
		return nil, usageError{fmt.Errorf("--relay.address or $RELAY_SERVER_ADDRESS: %w", err)}
	}
	return client, nil
}

// A usageError is a mistake of the command line.
type usageError struct{ error }

// run runs the command and returns its exit code.
func (c *groupsCommands) run(command, dataDir string, dataDirAsked bool, stdin *os.File, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	code, err := c.runOn(ctx, command, dataDir, dataDirAsked, stdin, &output{stdout: stdout, asJSON: *c.output == "json"})
	if err != nil {
		fmt.Fprintf(stderr, "relay-server %s: %v\n", command, advised(err))
		return codeOf(err)
	}
	return code
}

func (c *groupsCommands) runOn(ctx context.Context, command, dataDir string, dataDirAsked bool, stdin *os.File, out *output) (int, error) {
	if *c.limit < 0 {
		return 0, usageError{fmt.Errorf("--limit is %d, want a number of groups, or 0 for all", *c.limit)}
	}
	groups, err := c.relay(ctx, dataDir, dataDirAsked)
	if err != nil {
		return 0, err
	}
	query := c.queries[command].query(time.Now())
	if command == c.delete.FullCommand() {
		return c.runDelete(ctx, groups, query, stdin, out)
	}
	return exitOK, c.runList(ctx, groups, query, out)
}

func (c *groupsCommands) runList(ctx context.Context, running groupsOfRelay, query url.Values, out *output) error {
	listed, selected := []relayapi.Group{}, 0
	for {
		size := pageSize
		if *c.limit > 0 {
			size = min(size, *c.limit-len(listed))
		}
		query.Set(relayapi.ParamLimit, strconv.Itoa(size))
		page, err := within(ctx, listPatience, func(ctx context.Context) (relayapi.Page, error) { return running.Groups(ctx, query) })
		if err != nil {
			return err
		}
		listed, selected = append(listed, page.Groups...), page.Selected
		if page.Next == "" || len(listed) == *c.limit {
			break
		}
		query.Set(relayapi.ParamAfter, page.Next)
	}
	out.write(listed, func(w io.Writer) { writeGroups(w, listed, selected) })
	return nil
}

func writeGroups(w io.Writer, listed []relayapi.Group, selected int) {
	if len(listed) == 0 {
		fmt.Fprintln(w, "no group matches")
		return
	}
	writeTable(w, "GROUP\tLAST PUSH\tSERIES\tSTATE", func(table io.Writer) {
		for _, g := range listed {
			writeGroup(table, g)
		}
		if selected > len(listed) {
			fmt.Fprintf(table, "… of %s\n", commandline.Count(selected, "group"))
		}
	})
}

func within[T any](ctx context.Context, patience time.Duration, f func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return f(ctx)
}

func writeGroup(w io.Writer, g relayapi.Group) {
	pushed, state := "never", "-"
	if g.PushTime != nil {
		pushed = g.PushTime.Format(time.RFC3339)
	}
	if len(g.States) > 0 {
		state = strings.Join(g.States, ", ")
	}
	if reason := cmp.Or(g.JobFailure, g.Reason); reason != "" && slices.Contains(g.States, relayapi.StateFailed) {
		state += ": " + commandline.Plain(reason)
	}
	fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", labelsText(g.Labels), pushed, g.Series, state)
}

// runDelete deletes, after it has said what, and somebody has confirmed it.
func (c *groupsCommands) runDelete(ctx context.Context, running groupsOfRelay, query url.Values, stdin *os.File, out *output) (int, error) {
	remove := func(ctx context.Context) (relayapi.Deletion, error) { return running.Delete(ctx, query) }
	if *c.dryRun || !*c.yes {
		if !*c.dryRun && (out.asJSON || !isTerminal(stdin)) {
			return 0, errNotAsked
		}
		query.Set(relayapi.ParamDryRun, "true")
		planned, err := within(ctx, listPatience, remove)
		if err != nil {
			return 0, err
		}
		out.write(planned, func(w io.Writer) { writePlan(w, planned) })
		if *c.dryRun || planned.Deleted == 0 {
			return exitOK, nil
		}
		if !confirmed(stdin, out.stdout) {
			return 0, errNotConfirmed
		}
		query.Del(relayapi.ParamDryRun)
	}
	done, err := within(ctx, deletePatience, remove)
	if err != nil {
		return 0, err
	}
	out.write(done, func(w io.Writer) { writeDeletion(w, done) })
	if done.Changed > 0 {
		return exitChanged, nil
	}
	return exitOK, nil
}

func writeDeletion(w io.Writer, done relayapi.Deletion) {
	fmt.Fprintf(w, "groups that were deleted: %d of %d\n", done.Deleted, done.Selected)
	if done.Note != "" {
		fmt.Fprintf(w, "%d of them are of agents: %s\n", done.OfAgents, commandline.Plain(done.Note))
	}
	if done.Changed > 0 {
		fmt.Fprintf(w, "%d were left: they were pushed to, or deleted, in the same moment\n", done.Changed)
	}
}

var (
	errNotAsked     = errors.New("there is nobody to ask, standard input is no terminal or the output is for programs: --yes deletes without asking, --dry-run only says what")
	errNotConfirmed = errors.New("not confirmed, nothing was deleted")
)

func writePlan(stdout io.Writer, planned relayapi.Deletion) {
	fmt.Fprintf(stdout, "%s would be deleted\n", commandline.Count(planned.Deleted, "group"))
	for _, labels := range planned.Groups[:min(len(planned.Groups), namesShown)] {
		fmt.Fprintf(stdout, "  %s\n", labelsText(labels))
	}
	if more := planned.Deleted - namesShown; more > 0 {
		fmt.Fprintf(stdout, "  and %d more\n", more)
	}
	if planned.Note != "" {
		fmt.Fprintf(stdout, "%d of them are of agents: %s\n", planned.OfAgents, commandline.Plain(planned.Note))
	}
}

// confirmed asks. Anything but yes is no.
func confirmed(stdin io.Reader, stdout io.Writer) bool {
	fmt.Fprint(stdout, "Delete them? Type yes: ")
	line, err := bufio.NewReader(stdin).ReadString('\n')
	return err == nil && strings.TrimSpace(line) == "yes"
}

// advised adds to an error what a person can do about it.
func advised(err error) error {
	refused, answered := errors.AsType[*apiclient.RefusedError](err)
	switch {
	case errors.Is(err, relay.ErrNeedsRelay), relay.IsUnwritten(err), errors.Is(err, fs.ErrPermission):
		return err
	case errors.Is(err, apiclient.ErrUnreachable):
		return fmt.Errorf("%w (does it run, and does it listen there? --relay.address or $RELAY_SERVER_ADDRESS says where)", err)
	case errors.Is(err, relayapi.ErrNoRelay):
		return fmt.Errorf("%w: --relay.address or $RELAY_SERVER_ADDRESS says where the relay listens", err)
	case answered && refused.Status == http.StatusUnauthorized:
		return fmt.Errorf("%w: the relay wants a password (http://USER:PASSWORD@HOST:PORT in $RELAY_SERVER_ADDRESS)", err)
	default:
		return err
	}
}

func codeOf(err error) int {
	refused, answered := errors.AsType[*apiclient.RefusedError](err)
	_, usage := errors.AsType[usageError](err)
	switch {
	case usage, errors.Is(err, errNotAsked):
		return exitUsage
	case errors.Is(err, relay.ErrNeedsRelay), errors.Is(err, apiclient.ErrUnreachable), answered && (refused.Status >= http.StatusInternalServerError || refused.Status == http.StatusTooManyRequests):
		return exitLater
	default:
		return exitRefused
	}
}

// labelsText writes grouping labels as a selector has them, the job first.
func labelsText(labels map[string]string) string {
	names := make([]string, 0, len(labels))
	for name := range labels {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		switch {
		case a == b:
			return 0
		case a == model.JobLabel:
			return -1
		case b == model.JobLabel:
			return 1
		}
		return strings.Compare(a, b)
	})
	for i, name := range names {
		names[i] = commandline.Plain(name) + "=" + strconv.Quote(labels[name])
	}
	return "{" + strings.Join(names, ",") + "}"
}
