package membership

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"pushrelay/internal/enrol"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/monotonic"
	"pushrelay/internal/mtls"
)

// joinAgain is after how long members are asked again of which none has let this one in.
const joinAgain = 2 * time.Second

// errNobody means that no member has answered for so long that there is no cluster.
var errNobody = errors.New("nobody answers as a member")

// A right is what lets a relay in, and who is asked for that.
type right struct {
	pin     enrol.Pin
	members []string
	token   *enrol.Token
	ca      *authority // with its key, if there is no token
}

// right reads what was given.
func (j *Joining) right() (*right, error) {
	if j.PeerCADir == "" {
		token, err := enrol.ParseTokenOf(enrol.ForMembers, j.Token)
		return &right{pin: token.CA, members: token.Addresses, token: &token}, err
	}
	if j.Witness {
		return nil, errors.New("a witness gets no key of the members' authority, and joins by a token: --peer-ca-dir is for relays")
	}
	if err := mtls.CheckMemberName(j.Name); err != nil {
		return nil, err
	}
	if j.OrInitAs != "" {
		if err := mtls.CheckMemberName(j.OrInitAs); err != nil {
			return nil, fmt.Errorf("--or-init-as: %w", err)
		}
	}
	if err := enrol.CheckAddresses(j.Members); err != nil {
		return nil, fmt.Errorf("--member: %w", err)
	}
	ca, err := readPeerCA(j.PeerCADir)
	if err != nil {
		return nil, err
	}
	return &right{pin: ca.pin(), members: j.Members, ca: ca}, nil
}

// ask asks until a member lets this one in, or refuses it for good, or errNobody.
func (j *Joining) ask(ctx context.Context, by *right, key crypto.Signer) (answer *relayv1.JoinClusterResponse, err error) {
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, err
	}
	in := &relayv1.JoinClusterRequest{CertificateRequest: request, PeerAddress: j.Peer, LinkAddress: j.Link, WebAddress: j.Web, Witness: j.Witness}
	if by.token != nil {
		in.TokenId, in.TokenSecret = by.token.ID[:], by.token.Secret[:]
	}
	err = j.askUntil(ctx, by, key, func(ctx context.Context, door relayv1.MembershipServiceClient) (err error) {
		answer, err = door.JoinCluster(ctx, in)
		return err
	})
	return answer, err
}

// askUntil asks all members again and again until one does what is asked or refuses it for good. The error is errNobody if this one is to begin a cluster
// then.
func (j *Joining) askUntil(ctx context.Context, by *right, key crypto.Signer, ask func(context.Context, relayv1.MembershipServiceClient) error) error {
	answeredAt := time.Now()
	for {
		now := j.askAll(ctx, by, key, ask)
		switch {
		case now.err == nil || now.refused:
			return now.err
		case now.answered:
			answeredAt = time.Now()
		case j.mayInit() && ctx.Err() == nil && time.Since(answeredAt) >= j.InitAfter:
			return errNobody
		}
		if j.Progress != nil {
			j.Progress(j.progress(&now))
		}
		monotonic.Sleep(ctx, joinAgain)
		if ctx.Err() != nil {
			return fmt.Errorf("%w; the same command goes on with it", now.err)
		}
	}
}

func (j *Joining) progress(now *round) string {
	if now.answered || !j.mayInit() {
		return now.err.Error()
	}
	return fmt.Sprintf("%v; if nobody answers as a member for %s, %s begins a cluster", now.err, j.InitAfter, j.Name)
}

// A round is what came of asking each member once.
type round struct {
	answered bool  // one is a member, or may be one that is not up yet
	refused  bool  // nobody will say anything else later
	err      error // nil if one has done what was asked
}

// askAll asks each member once, but for this one.
func (j *Joining) askAll(ctx context.Context, by *right, key crypto.Signer, ask func(context.Context, relayv1.MembershipServiceClient) error) (r round) {
	failed := []error{}
	later := by.ca != nil // those may not be there yet
	for _, address := range by.members {
		if address == j.Link {
			continue
		}
		config, met := &tls.Config{}, false
		config.VerifyConnection = func(state tls.ConnectionState) error {
			err := verifyPin(by.pin, state)
			met = err == nil
			return err
		}
		if by.ca != nil && key != nil {
			proof, err := by.ca.signJoining(j.Name, key)
			if err != nil {
				return round{refused: true, err: err}
			}
			config.Certificates = []tls.Certificate{proof}
		}
		err := call(ctx, address, config, ask)
		if err == nil {
			return round{answered: true}
		}
		silent, other := errors.Is(err, errSilent), errors.Is(err, errOtherCluster)
		r.answered = r.answered || met || silent || other
		failed = append(failed, fmt.Errorf("member at %s: %w", address, told(err)))
		switch status.Code(err) {
		case codes.Unavailable, codes.DeadlineExceeded:
			later = true
		case codes.PermissionDenied, codes.AlreadyExists, codes.InvalidArgument:
			return round{answered: true, refused: true, err: failed[len(failed)-1]} // any other one says the same
		default:
			later, r.refused = later || silent, r.refused || other && by.ca != nil
		}
	}
	if len(failed) == 0 {
		failed = append(failed, errors.New("no other member is named"))
	}
	r.refused, r.err = r.refused || !later, errors.Join(failed...)
	return r
}
