package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"pushrelay/internal/agent"
	"pushrelay/internal/commandline"
	"pushrelay/internal/enrol/enrolclient"
	"pushrelay/internal/identity"
)

const enrollHelp = `Make this machine an agent of a relay: takes a join token, as relay-server agents token NAME prints it, and keeps the certificate that it is exchanged for in the data dir. The agent needs no TLS flag and no address then, and renews the certificate by itself.

A token on a command line can be seen by other users of the machine while the command runs: - reads it from standard input, --enroll.token-file from a file, and without any of these it is taken from $RELAY_ENROLL_TOKEN.

Example: sudo -u relay-agent relay-agent enroll --data.dir=/var/lib/relay-agent - <token.txt

Exit codes: 0 enrolled; 1 refused, or not possible: the same again will not help; 3 no relay can be reached, or it says later, or the data dir cannot be written: the same again may help, and costs no second token; 2 wrong command line.`

// maxTokenBytes bounds what is read as a token: more than one has.
const maxTokenBytes = 8 << 10

// enrollCommand makes an identity.
type enrollCommand struct {
	*kingpin.CmdClause
	tokens []string // what stands in its place: none, one, or more than there may be
	file   string
	opts   agent.EnrollOptions
}

func newEnrollCommand(app *kingpin.Application) *enrollCommand {
	c := &enrollCommand{CmdClause: app.Command("enroll", enrollHelp)}
	c.Arg("token", "Join token, or - for standard input.").StringsVar(&c.tokens)
	commandline.Text(c.Flag("enroll.token-file", "File with the join token.").PlaceHolder("FILE"), &c.file)
	commandline.Text(c.Flag("name", "Name of the agent, for a token that leaves it open (default: the name of this host).").PlaceHolder("NAME"), &c.opts.Name)
	c.Flag("force", "Also where the agent has an identity that is good: it is replaced.").BoolVar(&c.opts.Force)
	c.Flag("data.dir", "Data dir of the agent.").Default(agent.DefaultOptions().DataDir).PlaceHolder("DIR").StringVar(&c.opts.DataDir)
	c.Flag("relay.proxy-url", "HTTP proxy on the way to the relays, as for the agent.").PlaceHolder("URL").StringVar(&c.opts.RelayProxyURL)
	c.Flag("wait", "How long it is tried again while no relay can be reached.").Default("2m").DurationVar(&c.opts.Patience)
	return c
}

func (c *enrollCommand) run(stdin io.Reader, stdout, stderr io.Writer) int {
	fail := func(code int, err error) int {
		fmt.Fprintf(stderr, "relay-agent enroll: %v\n", err)
		return code
	}
	token, err := c.readToken(stdin, stderr)
	if err != nil {
		return fail(exitUsage, err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	c.opts.Token = token
	c.opts.Waits = func(err error, wait time.Duration) {
		fmt.Fprintf(stderr, "relay-agent enroll: %v; trying again in %s\n", err, wait)
	}
	id, err := agent.Enroll(ctx, c.opts)
	if failed, ok := errors.AsType[*enrolclient.Error](err); ok && failed.Later || errors.Is(err, agent.ErrUnkept) {
		return fail(exitLater, err)
	}
	if err != nil {
		return fail(exitFailed, err)
	}
	c.tell(stdout, id)
	return exitOK
}

// tell says who the agent is now, and what comes next.
func (c *enrollCommand) tell(out io.Writer, id *identity.Identity) {
	fmt.Fprintf(out, "this is agent %q now; its certificate is good until %s, and the agent renews it by itself\n", id.Agent.Agent, id.Certificate.NotAfter.UTC().Format(time.RFC3339))
	fmt.Fprintf(out, "relays: %s\n", strings.Join(id.Relays, ", "))
	next := "relay-agent"
	if c.opts.DataDir != agent.DefaultOptions().DataDir {
		next += " --data.dir=" + strconv.Quote(c.opts.DataDir)
	}
	fmt.Fprintf(out, "next: %s, or restart it if it runs\n", next)
}

// readToken returns the token from where the command line says.
func (c *enrollCommand) readToken(stdin io.Reader, stderr io.Writer) (string, error) {
	switch {
	case len(c.tokens) > 1:
		return "", errors.New("a join token is one word")
	case len(c.tokens) == 1 && c.file != "":
		return "", errors.New("a join token is given, and --enroll.token-file as well: one of the two")
	case len(c.tokens) == 1 && (c.tokens[0] == "" || c.tokens[0] == "-"): // kingpin makes the one of the other
		if f, ok := stdin.(*os.File); ok {
			if stat, err := f.Stat(); err == nil && stat.Mode()&os.ModeCharDevice != 0 {
				fmt.Fprintln(stderr, "relay-agent enroll: reading the join token from standard input")
			}
		}
		return readLine("standard input", stdin)
	case len(c.tokens) == 1:
		return c.tokens[0], nil
	case c.file != "":
		f, err := os.Open(c.file)
		if err != nil {
			return "", fmt.Errorf("--enroll.token-file: %w", err)
		}
		defer f.Close() //nolint:errcheck // It was only read.
		return readLine(c.file, f)
	case os.Getenv(tokenVariable) != "":
		return os.Getenv(tokenVariable), nil
	default:
		return "", fmt.Errorf("no join token is given: as an argument, by - from standard input, by --enroll.token-file, or in $%s", tokenVariable)
	}
}

// tokenVariable is the variable of the environment that has a join token.
const tokenVariable = "RELAY_ENROLL_TOKEN"

// readLine reads a token, which is one line: somebody may type it.
func readLine(from string, r io.Reader) (string, error) {
	text, err := bufio.NewReader(io.LimitReader(r, maxTokenBytes)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("reading the join token from %s: %w", from, err)
	}
	return text, nil
}
