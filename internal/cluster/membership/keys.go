package membership

import (
	"crypto/sha256"
	"strings"

	"pushrelay/internal/enrol"
)

// What etcd holds of members.
const (
	membersPrefix = "/pushrelay/members/"
	runningPrefix = "/pushrelay/running/"
	tokensPrefix  = "/pushrelay/tokens/"
)

func memberKey(name string) string     { return membersPrefix + name }
func runningKey(name string) string    { return runningPrefix + name }
func tokenKey(id enrol.TokenID) string { return tokensPrefix + id.String() }
func nameOf(prefix, key string) string { return strings.TrimPrefix(key, prefix) }
func digestOf(raw []byte) []byte       { sum := sha256.Sum256(raw); return sum[:] }
func peerURL(address string) string    { return "https://" + address }
func addressOf(peerURLs []string) string {
	return strings.TrimPrefix(strings.Join(peerURLs, ","), "https://")
}
