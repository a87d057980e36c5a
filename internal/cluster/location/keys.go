package location

import (
	"errors"
	"fmt"
	"strings"

	"github.com/klauspost/compress/s2"
	"google.golang.org/protobuf/proto"
)

// Below the prefix there are
//
//	agents/             says that the agents below are all that there are; a storagev1.ClusterAgentsBegun
//	agents/NAME         a storagev1.ClusterAgent
//	sessions/NAME       the process of the agent whose sessions are current; a storagev1.ClusterProcess
//	sessions/NAME/RELAY a storagev1.ClusterSession, on the lease of the relay's process
//
// Names of agents have no slash. Values of agents begin with a byte that says how they are packed.
type keys struct{ prefix string }

func (k keys) agents() string                     { return k.prefix + "agents/" }
func (k keys) agent(name string) string           { return k.agents() + name }
func (k keys) sessions() string                   { return k.prefix + "sessions/" }
func (k keys) process(agent string) string        { return k.sessions() + agent }
func (k keys) sessionsOf(agent string) string     { return k.sessions() + agent + "/" }
func (k keys) session(agent, relay string) string { return k.sessionsOf(agent) + relay }

// session returns whose session a key is; without a relay it is that of the agent's process.
func (k keys) splitSession(key string) (agent, relay string) {
	agent, relay, _ = strings.Cut(strings.TrimPrefix(key, k.sessions()), "/")
	return agent, relay
}

// How a value is packed.
const (
	plain  = 0
	packed = 1 // by S2
)

// packFrom is the length from which a value is worth packing.
const packFrom = 256

// errValue means that etcd holds what this release cannot read.
var errValue = errors.New("a value of the cluster's etcd is not understood: it was written by a later release, or by another program")

// isForeign says whether trying again does not help.
func isForeign(err error) bool { return errors.Is(err, errValue) }

// pack returns a message as a value.
func pack(m proto.Message) ([]byte, error) {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encoding what is known of an agent: %w", err)
	}
	if len(raw) >= packFrom {
		value := make([]byte, 1+s2.MaxEncodedLen(len(raw)))
		value[0] = packed
		value = value[:1+len(s2.Encode(value[1:], raw))]
		if len(value) < len(raw) {
			return value, nil
		}
	}
	return append([]byte{plain}, raw...), nil
}

// unpack reads a value into a message.
func unpack(value []byte, m proto.Message) error {
	if len(value) == 0 || value[0] > packed {
		return errValue
	}
	raw := value[1:]
	if value[0] == packed {
		var err error
		if raw, err = s2.Decode(nil, raw); err != nil {
			return fmt.Errorf("%w: %w", errValue, err)
		}
	}
	return unmarshal(raw, m)
}

func unmarshal(raw []byte, m proto.Message) error {
	if err := proto.Unmarshal(raw, m); err != nil {
		return fmt.Errorf("%w: %w", errValue, err)
	}
	return nil
}
