package tunnelserver

import (
	"testing"

	relayv1 "pushrelay/internal/gen/relay/v1"
)

// recordingStream keeps what is sent.
type recordingStream struct {
	relayv1.RelayService_AttachServer
	sent []*relayv1.AttachResponse
}

func (s *recordingStream) Send(event *relayv1.AttachResponse) error {
	s.sent = append(s.sent, event)
	return nil
}

// TestNothingGoesBeforeTheWelcome: a session is registered before its agent is welcomed, and is asked for scrapes at once.
func TestNothingGoesBeforeTheWelcome(t *testing.T) {
	stream, server := &recordingStream{}, &Server{}
	ss := &session{server: server, stream: stream}
	scrape := &relayv1.AttachResponse{Event: &relayv1.AttachResponse_Scrape{Scrape: &relayv1.ScrapeRequest{}}}
	for range outboundEvents {
		if !ss.enqueue(scrape) {
			t.Fatal("there is no room before the welcome")
		}
	}
	if ss.enqueue(scrape) {
		t.Error("there is room without bound")
	}
	server.senders.Wait()
	if len(stream.sent) != 0 {
		t.Fatalf("%d events went before the welcome", len(stream.sent))
	}
	ss.out.open(ss, &relayv1.AttachResponse{Event: &relayv1.AttachResponse_Welcome{Welcome: &relayv1.Welcome{}}})
	server.senders.Wait()
	if len(stream.sent) != 1+outboundEvents || stream.sent[0].GetWelcome() == nil || stream.sent[1].GetScrape() == nil {
		t.Errorf("%d events went, the first is %v; want the welcome and all that waited", len(stream.sent), stream.sent[0])
	}
}
