// Package pushflags is the flags that both programs have for pushes, so that a limit has one name, one default and one
// meaning at the agent and at the relay.
package pushflags

import (
	"github.com/alecthomas/kingpin/v2"

	"pushrelay/internal/push"
)

// Limits defines the flags of the limits of a push. The function that it returns reads them once they are parsed.
func Limits(cmd *kingpin.CmdClause) func() push.Limits {
	l := &push.Limits{}
	body := cmd.Flag("push.max-body-size", "Largest body of a push as it arrives; 0 for no limit.").Default("16MiB").Bytes()
	decompressed := cmd.Flag("push.max-decompressed-size", "Largest body of a push once it is decompressed; 0 for no limit.").Default("64MiB").Bytes()
	inflight := cmd.Flag("push.max-inflight-bytes", "Memory for the bodies of all pushes at once; 0 for no limit.").Default("256MiB").Bytes()
	labelLength := cmd.Flag("push.max-label-length", "Longest label value of a push; 0 for no limit.").Default("16KiB").Bytes()
	cmd.Flag("push.max-series", "Series in one push; 0 for no limit.").Default("100000").IntVar(&l.MaxSeries)
	cmd.Flag("push.max-labels", "Labels of one series of a push; 0 for no limit.").Default("64").IntVar(&l.MaxLabels)
	return func() push.Limits {
		l.MaxBodyBytes, l.MaxDecompressedBytes, l.MaxInflightBytes = int64(*body), int64(*decompressed), int64(*inflight)
		l.MaxLabelLength = int(*labelLength)
		return *l
	}
}
