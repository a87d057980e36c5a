package membership

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	authorities "pushrelay/internal/authority"
	"pushrelay/internal/enrol"
	"pushrelay/internal/enrol/strangers"
	relayv1 "pushrelay/internal/gen/relay/v1"
	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/loglimit"
	"pushrelay/internal/monotonic"
	"pushrelay/internal/mtls"
)

// JoinProtocol is the TLS application protocol (ALPN) of those who want to be members, and of members that are not up yet.
const JoinProtocol = "relay-member-join/1"

// refusalSilence is how long the same refusal of the same address is not logged again.
const refusalSilence = time.Minute

// DoorConfig is what a [Door] works with. All fields are required.
type DoorConfig struct {
	Client       *clientv3.Client
	Dir          *Dir
	Certificates *Certificates
	// Authority returns the relays' own authority for agents, in PEM: what a new relay needs to be one of them. Nothing if they have none.
	Authority func() (certificate, key []byte, err error)
	Logger    *slog.Logger
}

// Door is where a member meets those who want to be one, as enrolserver does agents. Its Take takes connections over after their handshake, its Serve
// serves them until Stop. It is safe for concurrent use.
type Door struct {
	relayv1.UnimplementedMembershipServiceServer
	*strangers.Port

	cfg      DoorConfig
	refusals *loglimit.Strangers // by address
	joining  chan struct{}       // one slot: one member is let in at a time
}

// NewDoor returns a door. It starts nothing.
func NewDoor(cfg DoorConfig) *Door {
	d := &Door{cfg: cfg, refusals: loglimit.NewStrangers(), joining: make(chan struct{}, 1)}
	d.Port = strangers.New(func(r grpc.ServiceRegistrar) { relayv1.RegisterMembershipServiceServer(r, d) })
	return d
}

// TLSConfig returns the TLS configuration of a connection that offers [JoinProtocol]: it shows the authority of members behind the certificate, asks for a
// certificate and verifies none.
func (d *Door) TLSConfig() *tls.Config {
	shown := *d.cfg.Certificates.current.Load()
	shown.Certificate = append(slices.Clip(shown.Certificate), d.cfg.Dir.ca.cert.Raw)
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{JoinProtocol}, Certificates: []tls.Certificate{shown}, ClientAuth: tls.RequestClientCert,
		SessionTicketsDisabled: true,
	}
}

// JoinCluster exchanges a join token, or the proof of having the authority's key, for membership. See membership.proto.
func (d *Door) JoinCluster(ctx context.Context, in *relayv1.JoinClusterRequest) (*relayv1.JoinClusterResponse, error) {
	from, err := strangers.AttemptOf(ctx)
	if err != nil {
		return nil, err
	}
	asked := time.Now()
	by, err := d.invitation(ctx, from, in)
	var answer *relayv1.JoinClusterResponse
	if err == nil {
		answer, err = d.letIn(ctx, by, in)
	}
	if errors.Is(err, errToken) || errors.Is(err, errProof) {
		monotonic.Sleep(ctx, time.Until(asked.Add(tokenWait)))
		err = &refusal{codes.PermissionDenied, err.Error()}
	}
	if err != nil {
		return nil, d.refused(from, "join", err)
	}
	d.cfg.Logger.Warn("a member was let into the cluster", slog.String("audit", "member_joined"), slog.String("member", answer.GetName()), slog.Bool("witness", in.GetWitness()),
		slog.Bool("token", by.token != nil), slog.String("addr", from.Address))
	return answer, nil
}

// An invitation is what lets somebody in under a name.
type invitation struct {
	name    string
	witness bool
	token   *shownToken // nil for one who has the key of the members' authority, and is let in by a certificate of it
}

// invitation returns what somebody shows, or errToken or errProof.
func (d *Door) invitation(ctx context.Context, from *strangers.Attempt, in *relayv1.JoinClusterRequest) (*invitation, error) {
	if from.Certificate != nil && len(in.GetTokenId()) == 0 && len(in.GetTokenSecret()) == 0 {
		name, err := d.cfg.Dir.ca.verifyJoining(from.Certificate)
		return &invitation{name: name}, err
	}
	token, err := findToken(ctx, d.cfg.Client, d.cfg.Dir, in.GetTokenId(), in.GetTokenSecret())
	if err != nil {
		return nil, err
	}
	return &invitation{name: token.GetName(), witness: token.GetWitness(), token: &token}, nil
}

// A refusal is what whoever asks is told.
type refusal struct {
	code codes.Code
	text string
}

// Error returns the text.
func (r *refusal) Error() string { return r.text }

func refusef(code codes.Code, format string, args ...any) error {
	return &refusal{code, fmt.Sprintf(format, args...)}
}

// refused logs a refusal and returns it as it travels. Whoever must ask again later has not failed.
func (d *Door) refused(from *strangers.Attempt, what string, err error) error {
	told, ok := errors.AsType[*refusal](err)
	if !ok {
		told = &refusal{codes.Unavailable, "the cluster does not answer this member just now: ask again in a while"}
	}
	if told.code != codes.Unavailable {
		d.Failed(from)
	}
	if missed, due := d.refusals.Due(told.code.String(), strangers.PrefixOf(from.Address).String(), refusalSilence); due {
		d.cfg.Logger.Warn("who wanted to be a member was refused", slog.String("audit", "member_refused"), slog.String("call", what), slog.String("addr", from.Address),
			slog.Any("err", err), slog.Int("not_logged", missed))
	}
	return status.Error(told.code, told.text)
}

// letIn makes a member of whoever is invited.
func (d *Door) letIn(ctx context.Context, by *invitation, in *relayv1.JoinClusterRequest) (*relayv1.JoinClusterResponse, error) {
	select {
	case d.joining <- struct{}{}:
		defer func() { <-d.joining }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	key, err := authorities.CheckRequest(in.GetCertificateRequest())
	if err != nil {
		return nil, refusef(codes.InvalidArgument, "%v", err)
	}
	public, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	if by.token != nil && len(by.token.GetKey()) > 0 && !bytes.Equal(by.token.GetKey(), digestOf(public)) {
		return nil, errToken
	}
	if in.GetWitness() != by.witness {
		return nil, refusef(codes.InvalidArgument, "the token is for %s, and this is to be %s: see --witness", kindOf(by.witness), kindOf(in.GetWitness()))
	}
	at := Addresses{Peer: in.GetPeerAddress(), Link: in.GetLinkAddress(), Web: in.GetWebAddress()}
	if err := at.check(); err != nil {
		return nil, refusef(codes.InvalidArgument, "%v", err)
	}
	now, err := d.list(ctx)
	if err != nil {
		return nil, err
	}
	if err := now.check(by.name, at); err != nil {
		return nil, err
	}
	answer, err := d.answer(by.name, at, by.witness, key)
	if err != nil {
		return nil, err
	}
	if by.token != nil {
		if err := by.token.use(ctx, d.cfg.Client, public); err != nil {
			return nil, err
		}
	}
	if err := d.add(ctx, now, by.name, at, by.witness); err != nil {
		return nil, err
	}
	answer.Members = now.with(by.name, at)
	return answer, nil
}

func kindOf(witness bool) string {
	if witness {
		return "a witness"
	}
	return "a relay"
}

// answer returns all that a member begins with, but for the members.
func (d *Door) answer(name string, at Addresses, witness bool, key any) (*relayv1.JoinClusterResponse, error) {
	ca := d.cfg.Dir.ca
	if ca.key == nil {
		return nil, refusef(codes.FailedPrecondition, "this member is a witness and lets nobody in: ask a relay of the cluster")
	}
	id := mtls.MemberID{Cluster: d.cfg.Dir.Member().Cluster, Name: name}
	der, err := ca.sign(id, at.Peer, key)
	if err != nil {
		return nil, err
	}
	answer := &relayv1.JoinClusterResponse{Cluster: id.Cluster, Name: name, Certificate: der, PeerCa: ca.cert.Raw, EtcdPrefix: d.cfg.Dir.Member().EtcdPrefix}
	if witness {
		return answer, nil
	}
	if answer.PeerCaKey, err = x509.MarshalPKCS8PrivateKey(ca.key); err != nil {
		return nil, err
	}
	answer.AuthorityCertificate, answer.AuthorityKey, err = d.cfg.Authority()
	return answer, err
}

// member returns which member has opened a connection, by its certificate.
func (d *Door) member(from *strangers.Attempt) (name string, err error) {
	if from.Certificate == nil {
		return "", refusef(codes.Unauthenticated, "a certificate of a member is needed for this")
	}
	id, err := d.cfg.Dir.ca.verify(from.Certificate, d.cfg.Dir.Member().Cluster, x509.ExtKeyUsageClientAuth)
	if err != nil {
		return "", refusef(codes.Unauthenticated, "%v", err)
	}
	return id.Name, nil
}

// RenewMember issues the next certificate to a member. See membership.proto.
func (d *Door) RenewMember(ctx context.Context, in *relayv1.RenewMemberRequest) (*relayv1.RenewMemberResponse, error) {
	from, err := strangers.AttemptOf(ctx)
	if err != nil {
		return nil, err
	}
	der, err := d.renew(ctx, from, in.GetCertificateRequest())
	if err != nil {
		return nil, d.refused(from, "renew", err)
	}
	return &relayv1.RenewMemberResponse{Certificate: der}, nil
}

func (d *Door) renew(ctx context.Context, from *strangers.Attempt, request []byte) ([]byte, error) {
	name, err := d.member(from)
	if err != nil {
		return nil, err
	}
	known, err := d.known(ctx, name)
	if err != nil {
		return nil, err
	}
	if known == nil {
		return nil, refusef(codes.PermissionDenied, "member %q was removed from the cluster", name)
	}
	key, err := authorities.CheckRequest(request)
	if err != nil {
		return nil, refusef(codes.InvalidArgument, "%v", err)
	}
	return d.cfg.Dir.ca.sign(mtls.MemberID{Cluster: d.cfg.Dir.Member().Cluster, Name: name}, known.GetPeerAddress(), key)
}

// ConfirmMember says whether whoever is about to start is the member that it was. See membership.proto.
func (d *Door) ConfirmMember(ctx context.Context, in *relayv1.ConfirmMemberRequest) (*relayv1.ConfirmMemberResponse, error) {
	from, err := strangers.AttemptOf(ctx)
	if err != nil {
		return nil, err
	}
	name, err := d.member(from)
	var known *storagev1.ClusterMember
	if err == nil {
		known, err = d.known(ctx, name)
	}
	if err != nil {
		return nil, d.refused(from, "confirm", err)
	}
	answer := &relayv1.ConfirmMemberResponse{IsMember: known != nil}
	if known != nil {
		has := hex.EncodeToString(digestOf(known.GetGeneration()))
		answer.IsCurrent = len(known.GetGeneration()) == 0 ||
			slices.ContainsFunc(in.GetGenerations(), func(digest []byte) bool { return hex.EncodeToString(digest) == has })
	}
	return answer, nil
}

// known returns what the cluster has of a member; nil for one that it does not have.
func (d *Door) known(ctx context.Context, name string) (*storagev1.ClusterMember, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	got, err := d.cfg.Client.Get(ctx, d.cfg.Dir.keys().member(name))
	if err != nil || len(got.Kvs) == 0 {
		return nil, err
	}
	known := &storagev1.ClusterMember{}
	return known, proto.Unmarshal(got.Kvs[0].Value, known)
}

// verifyPin finds the authority of members among what is shown, and verifies the rest by it alone.
func verifyPin(pin enrol.Pin, state tls.ConnectionState) error {
	if state.NegotiatedProtocol != JoinProtocol || len(state.PeerCertificates) == 0 {
		return errors.New("it is no member of a cluster: does the address lead to the port for agents of one?")
	}
	for _, cert := range state.PeerCertificates {
		if enrol.PinOf(cert.Raw) != pin || !cert.IsCA {
			continue
		}
		id, err := mtls.MemberIDFromCertificate(state.PeerCertificates[0])
		if err == nil {
			_, err = (&authority{cert: cert}).verify(state.PeerCertificates[0], id.Cluster, x509.ExtKeyUsageServerAuth)
		}
		return err
	}
	return errOtherCluster
}

// errOtherCluster means that a member is not one of the cluster that was meant.
var errOtherCluster = errors.New("it is not of the cluster that the token or --peer-ca-dir is for: its authority has another fingerprint. Somebody may be in between, or it is of another cluster")
