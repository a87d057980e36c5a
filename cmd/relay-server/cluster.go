package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"pushrelay/internal/cluster/membership"
	"pushrelay/internal/commandline"
	"pushrelay/internal/relay"
	"pushrelay/internal/relayapi"
)

// Ports at which members are dialled unless flags say otherwise.
const (
	defaultPeerPort = 9444
	defaultWebPort  = 9091
)

const (
	clusterHelp = `Make several relays one service: any of them takes any push and answers any scrape, and one of them may fail. Three or five are what is good for something, or two and a witness. What runs is asked at --data.dir; whoever does that has to be the relay's user, or root.

Exit codes: 0 done; 1 refused; 2 wrong command line; 3 the relay or the cluster cannot be reached, or cannot do it now.`
	clusterInitHelp = `Make the relay the first member of a cluster, with all that it holds. It restarts in place: scrapes go on, and pushes wait for a second. One that is stopped is a member from its next start on.

Example: sudo relay-server --data.dir=/var/lib/pushrelay cluster init --name=a --address=relay-a.example.org`
	clusterTokenHelp = `Make a join token: one line that lets in one member, once. Whoever has it gets what the relays hold, with the keys of their authorities, so treat it as a password. It is printed once. Tokens for agents are others: relay-server agents token.

The new member takes it with: relay-server cluster join TOKEN

Example: sudo relay-server --data.dir=/var/lib/pushrelay cluster token b`
	clusterJoinHelp = `Make an empty data dir that of a new member. Start the relay on it afterwards: it fetches what the cluster holds, and counts once it has it. If it is cut short, the same command goes on with it.

What lets it in is a token, or the key of the members' authority with --peer-ca-dir, --name and --member. The latter may run before each start of a relay: it does nothing once the data dir is that of the member, and asks until the cluster is there.

Example: sudo relay-server --data.dir=/var/lib/pushrelay cluster join TOKEN --address=relay-b.example.org`
	clusterStatusHelp = `Say who is a member, who leads, who runs and how far behind it is, and what is lost if the next one fails.

Example: sudo relay-server --data.dir=/var/lib/pushrelay cluster status`
	clusterRemoveHelp = `Remove another member: a lost one, or one that runs, which then stops. Its data dir starts no relay any more, until relay-server cluster leave there.

Example: sudo relay-server --data.dir=/var/lib/pushrelay cluster remove c`
	clusterHandOverHelp = `Have another member lead, as before the machine of this one is restarted. A relay that is stopped does that by itself.

Example: sudo relay-server --data.dir=/var/lib/pushrelay cluster handover`
	clusterLeaveHelp = `Make the member a relay of its own again, with what it holds, under a store id of its own, and take it out of the cluster. It restarts in place. One that is stopped is one from its next start on; then also remove it on another member.

Example: sudo relay-server --data.dir=/var/lib/pushrelay cluster leave`
	clusterForceNewHelp = `Make a stopped member the only one of a new cluster, if a majority is lost for good. Whatever the others had acknowledged and this one has not is lost here, but for what agents send again: the store gets a new id for that. The other members must never start again on their data dirs: they would be a second service.

Example: sudo relay-server --data.dir=/var/lib/pushrelay cluster force-new --yes`
)

// clusterCommands are about the membership of a relay.
type clusterCommands struct {
	init, token, join, status, remove, handover, leave, forceNew *kingpin.CmdClause

	output, name *string
	host         string
	at           relayapi.NewCluster
	joining      membership.Joining
	ttl          *time.Duration
	witness      *bool
	yes          *bool
}

func newClusterCommands(app *kingpin.Application) *clusterCommands {
	cluster := app.Command("cluster", clusterHelp)
	c := &clusterCommands{
		init: cluster.Command("init", clusterInitHelp), token: cluster.Command("token", clusterTokenHelp), join: cluster.Command("join", clusterJoinHelp),
		status: cluster.Command("status", clusterStatusHelp), remove: cluster.Command("remove", clusterRemoveHelp), handover: cluster.Command("handover", clusterHandOverHelp),
		leave: cluster.Command("leave", clusterLeaveHelp), forceNew: cluster.Command("force-new", clusterForceNewHelp),
		output: outputFlag(cluster), name: new(string),
	}
	commandline.Text(c.init.Flag("name", "Name of the member: lower-case letters, digits and dashes (default: the first part of the host's name).").PlaceHolder("NAME"), &c.at.Name)
	commandline.Text(c.init.Flag("peer-ca-dir", "Directory of an authority for members and nothing else, as tls.crt and tls.key on the curve P-256, which the relay must be able to read. Whoever has it can join. Otherwise one is made.").PlaceHolder("DIR"), &c.at.PeerCADir)
	for _, command := range []*kingpin.CmdClause{c.init, c.join} {
		commandline.Text(command.Flag("address", "Name or address at which other members dial this host (default: the host's name).").PlaceHolder("HOST"), &c.host)
		commandline.Text(command.Flag("peer-address", fmt.Sprintf("Where they dial its etcd (default: port %d of --address).", defaultPeerPort)).PlaceHolder("HOST:PORT"), &c.at.PeerAddress)
		commandline.Text(command.Flag("link-address", fmt.Sprintf("Where they dial its port for agents (default: port %d of --address).", relay.DefaultGRPCPort)).PlaceHolder("HOST:PORT"), &c.at.LinkAddress)
		commandline.Text(command.Flag("web-address", fmt.Sprintf("Where its own metrics are scraped (default: port %d of --address).", defaultWebPort)).PlaceHolder("HOST:PORT"), &c.at.WebAddress)
		commandline.Text(command.Flag("peer-listen-address", "Where its etcd is heard (default: the port of --peer-address, on all IPv4 addresses).").PlaceHolder("ADDRESS:PORT"), &c.at.ListenAddress)
	}
	c.token.Arg("name", "Name of the new member: lower-case letters, digits and dashes.").Required().StringVar(c.name)
	c.ttl = c.token.Flag("ttl", "How long it is good, up to 24h.").Default("15m").Duration()
	c.witness = c.token.Flag("witness", "Let in a witness, which counts for a majority, holds nothing for anybody and gets no key of an authority.").Bool()
	c.joinFlags()
	c.remove.Arg("name", "Name of the member.").Required().StringVar(c.name)
	c.yes = c.forceNew.Flag("yes", "Do it.").Bool()
	return c
}

// joinFlags adds what lets a relay in.
func (c *clusterCommands) joinFlags() {
	j := &c.joining
	c.join.Arg("token", "The token; none with --peer-ca-dir.").StringVar(&j.Token)
	c.join.Flag("witness", "Be a witness; the token must be for one.").BoolVar(&j.Witness)
	commandline.Text(c.join.Flag("peer-ca-dir", "Directory of the members' authority, as tls.crt and tls.key, in place of a token.").PlaceHolder("DIR"), &j.PeerCADir)
	commandline.Text(c.join.Flag("name", "Name of the member, without a token: lower-case letters, digits and dashes.").PlaceHolder("NAME"), &j.Name)
	commandline.Texts(c.join.Flag("member", "Port for agents of a member that is asked, without a token; may be given several times, and this one is not asked.").PlaceHolder("HOST:PORT"), &j.Members)
	commandline.Text(c.join.Flag("or-init-as", "Name of the one that begins the cluster, without a token, if nobody answers as a member. What its data dir holds is what the cluster begins with.").PlaceHolder("NAME"), &j.OrInitAs)
	c.join.Flag("or-init-after", "For how long nobody has to have answered before.").Default("30s").DurationVar(&j.InitAfter)
}

// has says whether the command is one of these.
func (*clusterCommands) has(command string) bool {
	return strings.HasPrefix(command, "cluster ")
}

// run runs the command and returns its exit code.
func (c *clusterCommands) run(command string, agents relay.Agents, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	cluster := relay.Cluster{Agents: agents, Say: func(words string) { fmt.Fprintln(stderr, commandline.Plain(words)) }}
	out := &output{stdout: stdout, stderr: stderr, asJSON: *c.output == "json", dataDir: agents.DataDir}
	if err := c.runOn(ctx, command, cluster, out); err != nil {
		fmt.Fprintf(stderr, "relay-server %s: %v\n", command, err)
		return codeOf(err)
	}
	return exitOK
}

func (c *clusterCommands) runOn(ctx context.Context, command string, cluster relay.Cluster, out *output) error {
	switch command {
	case c.init.FullCommand():
		return c.runInit(ctx, cluster, out)
	case c.join.FullCommand():
		return c.runJoin(ctx, cluster, out)
	case c.leave.FullCommand():
		return c.runLeave(ctx, cluster, out)
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, controlPatience)
	defer cancel()
	switch command {
	case c.token.FullCommand():
		return c.runToken(ctx, cluster, out)
	case c.status.FullCommand():
		return c.runStatus(ctx, cluster, out)
	case c.remove.FullCommand():
		return c.runRemove(ctx, cluster, out)
	case c.handover.FullCommand():
		return c.runHandOver(ctx, cluster, out)
	default:
		return c.runForceNew(ctx, cluster, out)
	}
}

// complete fills in the addresses that were not given.
func (c *clusterCommands) complete() error {
	host, err := os.Hostname()
	host = strings.ToLower(host)
	if host = cmp.Or(c.host, host); host == "" {
		return usageError{fmt.Errorf("this host has no name (%w): give --address", err)}
	}
	at := func(port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }
	c.at.PeerAddress = cmp.Or(c.at.PeerAddress, at(defaultPeerPort))
	c.at.LinkAddress = cmp.Or(c.at.LinkAddress, at(relay.DefaultGRPCPort))
	c.at.WebAddress = cmp.Or(c.at.WebAddress, at(defaultWebPort))
	if c.at.Name == "" {
		own, _ := os.Hostname()
		c.at.Name, _, _ = strings.Cut(strings.ToLower(own), ".")
	}
	return nil
}

func (c *clusterCommands) runInit(ctx context.Context, cluster relay.Cluster, out *output) error {
	if err := c.complete(); err != nil {
		return err
	}
	if c.at.PeerCADir != "" { // the relay reads it, which stands elsewhere
		at, err := filepath.Abs(c.at.PeerCADir)
		if err != nil {
			return err
		}
		c.at.PeerCADir = at
	}
	made, source, err := cluster.Init(ctx, c.at)
	if err != nil {
		return err
	}
	out.tell(source, made, func(w io.Writer) {
		when := "is from its next start on"
		if made.Restarts {
			when = "is"
		}
		fmt.Fprintf(w, "%s %s the first member of cluster %s; others dial its port for agents at %s, and its etcd, unless that runs by itself, at %s\nnext, for each further one: relay-server cluster token NAME\n",
			made.Name, when, made.Cluster, c.at.LinkAddress, c.at.PeerAddress)
	})
	return nil
}

func (c *clusterCommands) runToken(ctx context.Context, cluster relay.Cluster, out *output) error {
	made, err := cluster.Token(ctx, relayapi.NewMemberToken{Name: *c.name, TTLSeconds: int64(c.ttl.Seconds()), Witness: *c.witness})
	if err != nil {
		return err
	}
	out.write(made, func(w io.Writer) { fmt.Fprintln(w, made.Text) })
	if out.asJSON {
		return nil
	}
	// What a program reads is the token alone.
	flag := ""
	if made.Witness {
		flag = " --witness"
	}
	fmt.Fprintf(out.stderr, "good for member %s, once, until %s; on its machine, with an empty data dir: relay-server cluster join TOKEN%s --address=HOST\n",
		commandline.Plain(made.Name), timeText(&made.EndsAt), flag)
	return nil
}

// errJoin says what a join needs.
var errJoin = errors.New("give a token (relay-server cluster token NAME on a member), or --peer-ca-dir with --name and --member")

// checkJoin checks that what was given belongs together.
func (c *clusterCommands) checkJoin() error {
	j := &c.joining
	byAuthority := j.Name != "" || len(j.Members) > 0 || j.OrInitAs != ""
	if (j.Token == "") == (j.PeerCADir == "") || j.Token != "" && byAuthority || j.Token == "" && (j.Name == "" || len(j.Members) == 0) {
		return usageError{errJoin}
	}
	return nil
}

func (c *clusterCommands) runJoin(ctx context.Context, cluster relay.Cluster, out *output) error {
	if err := c.checkJoin(); err != nil {
		return err
	}
	if err := c.complete(); err != nil {
		return err
	}
	c.joining.Addresses, c.joining.Listen = membership.Addresses{Peer: c.at.PeerAddress, Link: c.at.LinkAddress, Web: c.at.WebAddress}, c.at.ListenAddress
	joined, err := cluster.Join(ctx, c.joining)
	if err != nil {
		return err
	}
	out.write(joined, func(w io.Writer) { writeJoined(w, &joined, cluster.DataDir) })
	return nil
}

func writeJoined(w io.Writer, joined *relay.Joined, dataDir string) {
	start := "start the relay"
	switch {
	case joined.Already:
		fmt.Fprintf(w, "%s is a member of cluster %s already\n", joined.Name, joined.Cluster)
		return
	case joined.First:
		fmt.Fprintf(w, "%s begins cluster %s\nnow start the relay on %s\n", joined.Name, joined.Cluster, dataDir)
		return
	case joined.Witness:
		start = "start it with relay-server witness"
	case joined.EtcdPrefix != "":
		start = fmt.Sprintf("start the relay with the same --cluster.etcd flags as the others, --cluster.etcd-prefix=%s among them,", commandline.Plain(joined.EtcdPrefix))
	default:
	}
	fmt.Fprintf(w, "%s is let into cluster %s, of %s\nnow %s on %s: it counts once it has what the cluster holds (relay-server cluster status)\n",
		joined.Name, joined.Cluster, strings.Join(joined.Members, ", "), start, dataDir)
}

func (c *clusterCommands) runStatus(ctx context.Context, cluster relay.Cluster, out *output) error {
	s, err := cluster.Status(ctx)
	if err != nil {
		return err
	}
	out.write(s, func(w io.Writer) {
		writeTable(w, "MEMBER\tROLE\tRUNS\tLAG\tRELEASE\tLEVEL\tETCD\tLINK", func(table io.Writer) {
			for _, m := range s.Members {
				fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", memberName(m), roleText(m), yesNo(m.Running), lagText(m.LagRevisions),
					commandline.Plain(cmp.Or(m.Release, "-")), levelText(m.FeatureLevel), commandline.Plain(cmp.Or(m.PeerAddress, "-")), commandline.Plain(cmp.Or(m.LinkAddress, "-")))
			}
		})
		fmt.Fprintf(w, "\nfeature level of the cluster: %s\n", levelText(s.FeatureLevel))
		for _, words := range s.Words {
			fmt.Fprintln(w, commandline.Plain(words))
		}
	})
	return nil
}

func memberName(m relayapi.ClusterMember) string {
	name := commandline.Plain(cmp.Or(m.Name, "?"))
	if m.Self {
		name += " (this one)"
	}
	return name
}

func roleText(m relayapi.ClusterMember) string {
	words := []string{commandline.Plain(m.Role)}
	if m.Leader {
		words = append(words, "leads")
	}
	if m.Witness {
		words = append(words, "witness")
	}
	return strings.Join(words, ", ")
}

func yesNo(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}

func lagText(revisions *int64) string {
	if revisions == nil {
		return "-"
	}
	return strconv.FormatInt(*revisions, 10)
}

func levelText(level uint32) string {
	if level == 0 {
		return "-"
	}
	return strconv.FormatUint(uint64(level), 10)
}

func (c *clusterCommands) runRemove(ctx context.Context, cluster relay.Cluster, out *output) error {
	gone, err := cluster.Remove(ctx, *c.name)
	if err != nil {
		return err
	}
	out.write(gone, func(w io.Writer) {
		fmt.Fprintf(w, "%s is removed, and stops if it runs\nto be a relay of its own with what it has: relay-server cluster leave there; to be a member again: an empty data dir and a new token\n", commandline.Plain(gone.Name))
	})
	return nil
}

func (c *clusterCommands) runHandOver(ctx context.Context, cluster relay.Cluster, out *output) error {
	done, err := cluster.HandOver(ctx)
	if err != nil {
		return err
	}
	out.write(done, func(w io.Writer) {
		fmt.Fprintf(w, "%s leads now, and %s no more\n", commandline.Plain(done.Leader), commandline.Plain(done.Former))
	})
	return nil
}

func (c *clusterCommands) runLeave(ctx context.Context, cluster relay.Cluster, out *output) error {
	gone, source, err := cluster.Leave(ctx)
	if err != nil {
		return err
	}
	out.tell(source, gone, func(w io.Writer) {
		if gone.Witness {
			fmt.Fprintf(w, "witness %s has ended, and its data dir is no member's any more\n", commandline.Plain(gone.Name))
			if source == relay.FromFiles {
				fmt.Fprintf(w, "unless the cluster has removed it already, on another member: relay-server cluster remove %s\n", gone.Name)
			}
			return
		}
		if source == relay.FromFiles {
			fmt.Fprintf(w, "%s is a relay of its own from its next start on\nunless the cluster has removed it already, on another member: relay-server cluster remove %s\n", gone.Name, gone.Name)
			return
		}
		fmt.Fprintf(w, "%s is a relay of its own, under a new store id\n", commandline.Plain(gone.Name))
	})
	return nil
}

// errForce says what force-new does before it is done.
var errForce = errors.New("this ends the cluster that there was: what other members have acknowledged and this one has not is lost here, and they must never start again on their data dirs. --yes does it")

func (c *clusterCommands) runForceNew(ctx context.Context, cluster relay.Cluster, out *output) error {
	if !*c.yes {
		return usageError{errForce}
	}
	forced, err := cluster.ForceNew(ctx)
	if err != nil {
		return err
	}
	out.write(forced, func(w io.Writer) {
		fmt.Fprintf(w, "%s is the only member of the new cluster %s from its next start on, and its store has a new id then\n", forced.Name, forced.Cluster)
		if len(forced.Lost) > 0 {
			fmt.Fprintf(w, "NEVER start these again on the data dirs that they have: %s. Empty them, and let them join with new tokens (relay-server cluster token NAME)\n", strings.Join(forced.Lost, ", "))
		}
	})
	return nil
}
