package relay

import "pushrelay/internal/datadir"

// DefaultDataDir returns the data dir of a relay that was given none: beside the Pushgateway's file if it was given one,
// because that is where a Pushgateway could write.
func DefaultDataDir(persistenceFile string) string {
	if persistenceFile != "" {
		return persistenceFile + ".relay"
	}
	return datadir.Default("data")
}
