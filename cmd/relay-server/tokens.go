package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"pushrelay/internal/commandline"
	"pushrelay/internal/relay"
	"pushrelay/internal/relayapi"
)

const (
	agentsTokenHelp = `Make a join token: one line that lets an agent in. Whoever has it can come in as that agent, so treat it as a password. It is printed once.

An agent takes it with: relay-agent enroll TOKEN

For images that are started many times, --name-prefix lets agents choose names that begin so (their host name, unless they say another), each once.

Example: sudo relay-server --data.dir=/var/lib/pushrelay agents token site-a
Example: sudo relay-server --data.dir=/var/lib/pushrelay agents token --name-prefix=edge- --uses=500 --ttl=720h`
	agentsTokensHelp = `List the join tokens that let agents in, or void some of them. What is used up is listed until its end.

Example: sudo relay-server --data.dir=/var/lib/pushrelay agents tokens --void=0123456789abcdef`
)

// tokensCommands are about join tokens. They belong to agentsCommands.
type tokensCommands struct {
	token, tokens *kingpin.CmdClause
	name          *string
	prefix        string
	ttl           *time.Duration
	what          relayapi.NewToken
	void          []string
}

func newTokensCommands(agents *kingpin.CmdClause) *tokensCommands {
	c := &tokensCommands{token: agents.Command("token", agentsTokenHelp), tokens: agents.Command("tokens", agentsTokensHelp)}
	c.name = c.token.Arg("name", "Name of the agent: its identity, lower-case letters, digits, dots and dashes.").String()
	commandline.Text(c.token.Flag("name-prefix", "Instead of a name: let agents in whose names begin so, as long as nobody has the name.").PlaceHolder("PREFIX"), &c.prefix)
	c.token.Flag("replace", "With --name-prefix: also let an agent take over a name that has a certificate, such as that of a container that is started anew.").BoolVar(&c.what.Replace)
	c.token.Flag("uses", "How many agents it lets in.").Default("1").IntVar(&c.what.Uses)
	c.ttl = c.token.Flag("ttl", "How long it is good.").Default("1h").Duration()
	c.token.Flag("relay.address", "Where agents dial the relay, HOST:PORT (repeatable: several relays of the same authority; default: its --grpc.tls.server-name, or its host name).").PlaceHolder("HOST:PORT").StringsVar(&c.what.Addresses)
	commandline.Texts(c.tokens.Flag("void", "Make this token let nobody in any more (repeatable).").PlaceHolder("ID"), &c.void)
	return c
}

func (c *tokensCommands) runToken(ctx context.Context, agents relay.Agents, out *output) error {
	c.what.Name, c.what.TTLSeconds = *c.name, int64(c.ttl.Seconds())
	if c.prefix != "" {
		if *c.name != "" {
			return usageError{errors.New("give a name or --name-prefix, not both")}
		}
		c.what.Name, c.what.Prefix = c.prefix, true
	}
	if c.what.Name == "" {
		return usageError{errors.New("give the name of the agent, or --name-prefix for many")}
	}
	made, source, err := agents.MakeToken(ctx, c.what)
	if err != nil {
		return err
	}
	out.tell(source, made, func(w io.Writer) { fmt.Fprintln(w, made.Text) })
	if out.asJSON {
		return nil
	}
	// What a program reads is the token alone.
	fmt.Fprintf(out.stderr, "good for %s until %s; at the agent: relay-agent enroll TOKEN\n", tokenFor(made.Token), timeText(&made.EndsAt))
	for _, note := range made.Notes {
		fmt.Fprintln(out.stderr, commandline.Plain(note))
	}
	return nil
}

func (c *tokensCommands) runTokens(ctx context.Context, agents relay.Agents, out *output) error {
	for _, id := range c.void {
		done, source, err := agents.VoidToken(ctx, id)
		if err != nil {
			return err
		}
		out.tell(source, done, func(w io.Writer) { fmt.Fprintf(w, "token %s lets nobody in any more\n", commandline.Plain(done.ID)) })
	}
	if len(c.void) > 0 {
		return nil
	}
	tokens, source, err := agents.Tokens(ctx)
	if err != nil {
		return err
	}
	out.tell(source, tokens, func(w io.Writer) {
		if len(tokens) == 0 {
			fmt.Fprintln(w, "there is no token: agents token NAME makes one")
			return
		}
		writeTable(w, "ID\tFOR\tUSED\tMADE\tENDS", func(table io.Writer) {
			for _, t := range tokens {
				fmt.Fprintf(table, "%s\t%s\t%d of %d\t%s\t%s\n", commandline.Plain(t.ID), nameOfToken(t), t.Used, t.Uses, timeText(&t.MadeAt), timeText(&t.EndsAt))
			}
		})
	})
	return nil
}

// nameOfToken is whom the token is for, as a table has it.
func nameOfToken(t relayapi.Token) string {
	switch {
	case t.Replace:
		return commandline.Plain(t.Name) + "…, replacing"
	case t.Prefix:
		return commandline.Plain(t.Name) + "…"
	default:
		return commandline.Plain(t.Name)
	}
}

// tokenFor says it in a sentence.
func tokenFor(t relayapi.Token) string {
	who := "agent " + commandline.Plain(t.Name)
	if t.Prefix {
		who = fmt.Sprintf("agents whose names begin with %s", commandline.Plain(t.Name))
	}
	if t.Uses == 1 {
		return who + ", once,"
	}
	return fmt.Sprintf("%s, %d times,", who, t.Uses)
}
