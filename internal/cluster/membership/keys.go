package membership

import (
	"crypto/sha256"
	"strings"

	"pushrelay/internal/enrol"
)

// DefaultPrefix is what all keys begin with, unless an etcd that runs by itself has another place for them.
const DefaultPrefix = "/pushrelay/"

// keys are what etcd holds of members, below a prefix.
type keys struct{ prefix string }

// cluster has the id of the cluster, in an etcd that runs by itself.
func (k keys) cluster() string               { return k.prefix + "cluster" }
func (k keys) members() string               { return k.prefix + "members/" }
func (k keys) member(name string) string     { return k.members() + name }
func (k keys) allRunning() string            { return k.prefix + "running/" }
func (k keys) running(name string) string    { return k.allRunning() + name }
func (k keys) tokens() string                { return k.prefix + "tokens/" }
func (k keys) token(id enrol.TokenID) string { return k.tokens() + id.String() }

func nameOf(prefix, key string) string { return strings.TrimPrefix(key, prefix) }
func digestOf(raw []byte) []byte       { sum := sha256.Sum256(raw); return sum[:] }
func peerURL(address string) string    { return "https://" + address }
func addressOf(peerURLs []string) string {
	return strings.TrimPrefix(strings.Join(peerURLs, ","), "https://")
}
