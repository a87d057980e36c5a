// Package pushflags is the flags that both programs have for pushes, so that a limit has one name and one meaning at the agent and
// at the relay.
package pushflags

import (
	"strconv"

	"github.com/alecthomas/kingpin/v2"

	"pushrelay/internal/commandline"
	"pushrelay/internal/exposition"
)

// Limits defines the flags of the limits of a push, with the given defaults. The function that it returns reads them once they
// are parsed.
func Limits(cmd *kingpin.CmdClause, defaults exposition.Limits) func() exposition.Limits {
	l := defaults
	body := cmd.Flag("push.max-body-size", "Largest body of a push as it arrives; 0 for no limit.").Default(commandline.Bytes(l.MaxBodyBytes)).Bytes()
	decompressed := cmd.Flag("push.max-decompressed-size", "Largest body of a push once it is decompressed; 0 for no limit.").Default(commandline.Bytes(l.MaxDecompressedBytes)).Bytes()
	inflight := cmd.Flag("push.max-inflight-bytes", "Memory for the bodies of all pushes at once; 0 for no limit.").Default(commandline.Bytes(l.MaxInflightBytes)).Bytes()
	labelLength := cmd.Flag("push.max-label-length", "Longest label value of a push; 0 for no limit.").Default(commandline.Bytes(int64(l.MaxLabelLength))).Bytes()
	cmd.Flag("push.max-series", "Series in one push; 0 for no limit.").Default(strconv.Itoa(l.MaxSeries)).IntVar(&l.MaxSeries)
	cmd.Flag("push.max-labels", "Labels of one series of a push; 0 for no limit.").Default(strconv.Itoa(l.MaxLabels)).IntVar(&l.MaxLabels)
	return func() exposition.Limits {
		l.MaxBodyBytes, l.MaxDecompressedBytes, l.MaxInflightBytes = int64(*body), int64(*decompressed), int64(*inflight)
		l.MaxLabelLength = int(*labelLength)
		return l
	}
}
