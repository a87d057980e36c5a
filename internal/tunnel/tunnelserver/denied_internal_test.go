package tunnelserver

import (
	"errors"
	"testing"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/roster"
)

// TestOnlyWhoKnowsTheQuestionIsTold: an agent of an earlier release is sent nothing that it did not announce.
func TestOnlyWhoKnowsTheQuestionIsTold(t *testing.T) {
	for _, knows := range []bool{true, false} {
		stream, server := &recordingStream{}, &Server{}
		ss := &session{server: server, stream: stream, denials: knows}
		ss.out.open(ss, &relayv1.AttachResponse{})
		ss.TellWithheld(roster.Withheld{Count: 3, Names: []string{"a"}, Why: errors.New("no")})
		ss.TellWithheld(roster.Withheld{})
		server.senders.Wait()
		if told := len(stream.sent) - 1; told != map[bool]int{true: 2}[knows] {
			t.Errorf("an agent that knows the question (%v) is told %d times", knows, told)
		}
		if !knows {
			continue
		}
		if d := stream.sent[1].GetTargetsDenied(); d.GetCount() != 3 || d.GetMessage() != "no" || stream.sent[2].GetTargetsDenied().GetCount() != 0 {
			t.Errorf("it is told %v", stream.sent[1:])
		}
	}
}
