package membership

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"pushrelay/internal/enrol"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/tunnel/relayconn"
)

// maxHeaderBytes bounds the headers of an answer.
const maxHeaderBytes = 16 << 10

// errSilent means that a connection was taken, and nothing is said on it: a relay has its port before it serves.
var errSilent = errors.New("it says nothing: it may be a member that waits for a majority")

// call opens a connection to a member for one call. It is judged before anything is said.
func call(ctx context.Context, address string, config *tls.Config, ask func(context.Context, relayv1.MembershipServiceClient) error) error {
	ctx, cancel := context.WithTimeout(ctx, enrol.AttemptTimeout)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("dialling it: %w", err)
	}
	defer raw.Close()
	config.MinVersion, config.NextProtos = tls.VersionTLS13, []string{JoinProtocol}
	config.InsecureSkipVerify = true // Not less verification but our own, in VerifyConnection: by the authority of members, wherever they are.
	conn := tls.Client(raw, config)
	var ready net.Conn
	if err = conn.HandshakeContext(ctx); err == nil {
		ready, err = relayconn.AwaitRelay(ctx, conn)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = errSilent
	}
	if err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	cc, err := relayconn.NewClient(ready, conn.ConnectionState(), address,
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(enrol.MaxMessageBytes)), grpc.WithMaxHeaderListSize(maxHeaderBytes))
	if err != nil {
		return err
	}
	defer cc.Close() //nolint:errcheck // The call has its answer by then, or never will.
	return ask(ctx, relayv1.NewMembershipServiceClient(cc))
}

// asMember is how a member dials the door of another one.
func (d *Dir) asMember() (*tls.Config, error) {
	pair, err := readPair(d.file(pairFile))
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil },
		VerifyConnection:     func(state tls.ConnectionState) error { return verifyPin(d.ca.pin(), state) },
	}, nil
}

// A Confirmation is what another member knows of this one.
type Confirmation struct{ IsMember, IsCurrent bool }

// Peers are the doors of other members. They are asked in turn.
type Peers struct {
	// Dir is that of this member.
	Dir *Dir
	// Addresses returns where the ports for agents of the others are; nil for those that the data dir knows.
	Addresses func() []string
}

// ask asks the others until one answers.
func (p Peers) ask(ctx context.Context, ask func(context.Context, relayv1.MembershipServiceClient) error) error {
	err := errors.New("no other member is known")
	for _, address := range p.addresses() {
		config, failed := p.Dir.asMember()
		if failed != nil {
			return failed
		}
		if err = call(ctx, address, config, ask); err == nil {
			return nil
		}
		err = fmt.Errorf("member at %s: %w", address, err)
	}
	return err
}

func (p Peers) addresses() []string {
	if p.Addresses != nil {
		return p.Addresses()
	}
	m := p.Dir.Member()
	var all []string
	for name, address := range m.Links {
		if name != m.Name {
			all = append(all, address)
		}
	}
	slices.Sort(all)
	return all
}

// Confirm asks whether this member is the one that it was, for [Dir.Prepare].
func (p Peers) Confirm(ctx context.Context, generations [][]byte) (c Confirmation, err error) {
	err = p.ask(ctx, func(ctx context.Context, door relayv1.MembershipServiceClient) error {
		answer, err := door.ConfirmMember(ctx, &relayv1.ConfirmMemberRequest{Generations: generations})
		c = Confirmation{answer.GetIsMember(), answer.GetIsCurrent()}
		return err
	})
	return c, err
}

// Renew has another member sign a request, for [CertificatesConfig].
func (p Peers) Renew(ctx context.Context, request []byte) (der []byte, err error) {
	err = p.ask(ctx, func(ctx context.Context, door relayv1.MembershipServiceClient) error {
		answer, err := door.RenewMember(ctx, &relayv1.RenewMemberRequest{CertificateRequest: request})
		der = answer.GetCertificate()
		return err
	})
	return der, err
}

// told returns what a member said, without the words of gRPC.
func told(err error) error {
	if st, ok := status.FromError(err); ok {
		return errors.New(st.Message())
	}
	return err
}
