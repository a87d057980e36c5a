package relay

import (
	"os"
	"path/filepath"

	"pushrelay/internal/datadir"
)

// DefaultDataDir returns the data dir of a relay that was given none: beside the Pushgateway's file if it was given one,
// because that is where a Pushgateway could write.
func DefaultDataDir(persistenceFile string) string {
	if persistenceFile != "" {
		return persistenceFile + ".relay"
	}
	return datadir.Default("data")
}

// agentsFile is where the known agents are in a data dir; empty for a relay that keeps nothing.
func agentsFile(dataDir string) string {
	if dataDir == "" {
		return ""
	}
	return filepath.Join(dataDir, "agents.json")
}

// wasUsed reports whether a relay has run on the data dir before: a certificate of its own and the known agents come with the
// first start, and not with the commands.
func wasUsed(dataDir string) bool {
	if dataDir == "" {
		return false
	}
	for _, file := range []string{agentsFile(dataDir), filepath.Join(authorityDir(dataDir), "relay.crt")} {
		if _, err := os.Stat(file); err == nil {
			return true
		}
	}
	return false
}
