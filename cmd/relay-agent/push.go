package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kingpin/v2"

	"pushrelay/internal/agentapi"
	"pushrelay/internal/commandline"
	"pushrelay/internal/exposition"
)

// maxPushBytes bounds what is read of a file; what an agent takes is for its own flags to say, and less.
const maxPushBytes = 256 << 20

const exitCodesHelp = `Exit codes: 0 taken by the relays, or kept by the agent until they are there (that is told on standard output); 1 refused, the same again will not help; 2 wrong command line; 3 not possible now (agent or relays out of reach, limits of the store): try again.`

const pushHelp = `Push metrics in the text format from a file, or from standard input. Metrics of other names in the group stay. A byte order mark, CR LF at the ends of lines and a missing last line feed do no harm.

Two machines that push through one agent write one group unless their keys differ: --grouping=instance=$(hostname) on each.

Example: echo 'rows_imported 4711' | relay-agent push --job=import --grouping=instance="$(hostname)"

` + exitCodesHelp

const deleteHelp = `Delete a group with all its metrics. It is no error if there is none.

Example: relay-agent delete --job=import --grouping=instance="$(hostname)"

` + exitCodesHelp

// pushCommands change one group.
type pushCommands struct {
	push, delete           *kingpin.CmdClause
	pushGroup, deleteGroup *groupFlags
	pushAPI, deleteAPI     *apiFlags
	life                   *lifeFlags
	replace                *bool
	file                   *string
}

func newPushCommands(app *kingpin.Application) *pushCommands {
	c := &pushCommands{push: app.Command("push", pushHelp), delete: app.Command("delete", deleteHelp)}
	c.pushGroup, c.deleteGroup = newGroupFlags(c.push), newGroupFlags(c.delete)
	c.pushAPI, c.deleteAPI = newAPIFlags(c.push), newAPIFlags(c.delete)
	c.life = newLifeFlags(c.push)
	c.replace = c.push.Flag("replace", "Make these metrics all that the group has (PUT instead of POST).").Bool()
	c.file = c.push.Arg("file", "File to read; standard input without it, or if it is -.").String()
	return c
}

func (c *pushCommands) run(command string, stdin io.Reader, stdout, stderr io.Writer) int {
	group, api := c.pushGroup, c.pushAPI
	if command == c.delete.FullCommand() {
		group, api = c.deleteGroup, c.deleteAPI
	}
	key, err := group.key()
	var client *agentapi.Client
	if err == nil {
		client, err = api.client()
	}
	var content agentapi.Content
	if err == nil {
		content.Life, err = c.life.declaration() // says nothing for delete, which has no such flags
	}
	if err != nil {
		fmt.Fprintf(stderr, "relay-agent %s: %v\n", command, err)
		return exitUsage
	}
	if command == c.push.FullCommand() {
		if content.Exposition, err = c.read(stdin); err != nil {
			return failed(command, err, stderr)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience) // ended here; a signal ends the program
	defer cancel()
	var done agentapi.Push
	switch {
	case command == c.delete.FullCommand():
		done, err = client.Delete(ctx, key)
	case *c.replace:
		done, err = client.Replace(ctx, key, content)
	default:
		done, err = client.Merge(ctx, key, content)
	}
	if err != nil {
		return failed(command, err, stderr)
	}
	if done.Spooled {
		fmt.Fprintf(stdout, "kept by the agent until a relay takes it: %s\n", commandline.Plain(done.Detail))
	}
	return exitOK
}

// read returns the exposition to push. Nothing at all is more likely a command before it that failed than what was meant.
func (c *pushCommands) read(stdin io.Reader) ([]byte, error) {
	name := *c.file
	if name == "" || name == "-" { // kingpin makes the one of the other
		name = "standard input"
	} else {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer file.Close() //nolint:errcheck // It was only read.
		stdin = file
	}
	body, err := io.ReadAll(io.LimitReader(stdin, maxPushBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if len(body) > maxPushBytes {
		return nil, fmt.Errorf("%s has more than %d bytes", name, maxPushBytes)
	}
	if body = exposition.Tidy(body); len(body) == 0 {
		return nil, errors.New(name + " is empty, there is nothing to push (relay-agent delete removes a group)")
	}
	return body, nil
}
