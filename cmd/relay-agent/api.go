package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"pushrelay/internal/agentapi"
	"pushrelay/internal/apiclient"
	"pushrelay/internal/grouping"
)

// patience is how long a command waits for the agent: longer than the agent waits for its relays before it keeps a push.
const patience = 15 * time.Second

// apiFlags say which agent a command speaks to.
type apiFlags struct{ address *string }

func newAPIFlags(c *kingpin.CmdClause) *apiFlags {
	return &apiFlags{
		address: c.Flag("agent.address", "Where the agent listens: http://HOST:PORT or unix:PATH (default: "+agentapi.DefaultAddress+").").Envar("RELAY_AGENT_ADDRESS").Default(agentapi.DefaultAddress).PlaceHolder("ADDRESS").String(),
	}
}

func (f *apiFlags) client() (*agentapi.Client, error) {
	client, err := agentapi.New(*f.address)
	if err != nil {
		return nil, fmt.Errorf("--agent.address or $RELAY_AGENT_ADDRESS: %w", err)
	}
	return client, nil
}

// groupFlags name a group.
type groupFlags struct {
	job    *string
	labels *[]string
}

func newGroupFlags(c *kingpin.CmdClause) *groupFlags {
	return &groupFlags{
		job:    c.Flag("job", "Name of the job.").Required().PlaceHolder("NAME").String(),
		labels: c.Flag("grouping", "Further label of the grouping key, such as instance=$(hostname) (repeatable).").PlaceHolder("NAME=VALUE").Strings(),
	}
}

// key returns the grouping key. A label that comes twice is a mistake and not a choice.
func (f *groupFlags) key() (grouping.Key, error) {
	labels := []grouping.Label{{Name: "job", Value: *f.job}}
	seen := map[string]bool{"job": true}
	for _, text := range *f.labels {
		name, value, ok := strings.Cut(text, "=")
		if !ok {
			return grouping.Key{}, fmt.Errorf("--grouping %q is not NAME=VALUE", text)
		}
		if name == "job" {
			return grouping.Key{}, errors.New("--grouping job=… is what --job is for")
		}
		if seen[name] {
			return grouping.Key{}, fmt.Errorf("--grouping %s is given twice", name)
		}
		seen[name] = true
		labels = append(labels, grouping.Label{Name: name, Value: value})
	}
	key, err := grouping.New(labels...)
	if err != nil {
		return grouping.Key{}, fmt.Errorf("--job and --grouping make no grouping key: %w", err)
	}
	return key, nil
}

// advised adds to an error what a person can do about it.
func advised(err error) error {
	refused, answered := errors.AsType[*apiclient.RefusedError](err)
	switch {
	case errors.Is(err, apiclient.ErrUnreachable):
		return fmt.Errorf("%w (does it run, and does it listen there? --agent.address or $RELAY_AGENT_ADDRESS says where)", err)
	case errors.Is(err, agentapi.ErrNoAgent):
		return fmt.Errorf("%w: --agent.address or $RELAY_AGENT_ADDRESS says where the agent listens", err)
	case answered && refused.Status == http.StatusUnauthorized:
		return fmt.Errorf("%w: the agent wants a password (http://USER:PASSWORD@HOST:PORT in $RELAY_AGENT_ADDRESS), or use its Unix socket, which wants none", err)
	default:
		return err
	}
}

// failed tells an error of a command and returns its exit code.
func failed(command string, err error, stderr io.Writer) int {
	fmt.Fprintf(stderr, "relay-agent %s: %v\n", command, advised(err))
	if refused, ok := errors.AsType[*apiclient.RefusedError](err); errors.Is(err, apiclient.ErrUnreachable) || ok && refused.Later() {
		return exitLater
	}
	return exitFailed
}
