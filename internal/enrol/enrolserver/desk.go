package enrolserver

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"pushrelay/internal/authority"
	"pushrelay/internal/enrol"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/ledger"
	"pushrelay/internal/mtls"
)

// tokenWait is when whoever has no token that is good is told so, counted from when they asked: whether it is unknown, used, ended or void takes the same
// time.
const tokenWait = 100 * time.Millisecond

func refusef(reason enrol.Reason, format string, args ...any) *enrol.Refusal {
	return &enrol.Refusal{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

func refuseNamef(format string, args ...any) *enrol.Refusal {
	refusal := refusef(enrol.ReasonName, format, args...)
	refusal.KnowsFallback = true
	return refusal
}

// cannotSign is said by a relay that has no authority.
func cannotSign() *enrol.Refusal {
	return refusef(enrol.ReasonCannotSign, "this relay has no certificate authority of its own to sign with: ask the relay that made the token")
}

// enroll is Enroll.
func (s *Server) enroll(ctx context.Context, in *relayv1.EnrollRequest, who *asker) (*relayv1.IssuedCertificate, *enrol.Refusal) {
	if !s.CanSign() {
		return nil, cannotSign()
	}
	now := time.Now()
	token, good := s.token(in, now, who)
	if !good {
		return nil, refuseToken(ctx, now)
	}
	if !s.buckets.take("token "+token.ID, ofTokens) {
		return nil, refusef(enrol.ReasonLater, "the token is used very often at once: ask again in a while")
	}
	name, refusal := nameOf(token, in)
	if refusal != nil {
		return nil, refusal
	}
	who.agent = name
	if end, seen := s.cfg.Known(name); seen && token.Prefix && !token.Replace && now.Before(end.Add(s.cfg.Grace)) && !s.cfg.Ledger.HasAny(name) {
		return nil, refuseNamef("%s is known to this relay with a certificate that its ledger does not have: choose another name, or take a token that may replace (relay-server agents token --replace)", name)
	}
	if err := s.cfg.CheckName(name, s.cfg.Authority.TrustDomain()); err != nil {
		return nil, refuseNamef("%v", err)
	}
	key, refusal := keyOf(in.GetCertificateRequest())
	if refusal != nil {
		return nil, refusal
	}
	c := ledger.Certificate{Agent: name, By: ledger.ByToken, Token: token.ID, Key: digest(key), Address: who.address}
	issued, refusal := s.exchange(c, key)
	if refusal != nil && refusal.Reason == enrol.ReasonToken {
		who.why = "it has let in as many keys as it has uses"
		return nil, refuseToken(ctx, now)
	}
	return issued, refusal
}

// exchange uses a token. A key that has used it already gets the certificate that it got then, while there is time left in it: the answer was lost.
func (s *Server) exchange(c ledger.Certificate, key crypto.PublicKey) (*relayv1.IssuedCertificate, *enrol.Refusal) {
	s.using.Lock()
	defer s.using.Unlock()
	now := time.Now()
	suits := func(former ledger.Certificate) bool {
		return now.After(former.From) && now.Before(enrol.RenewFrom(former.From, former.To)) // unless this clock was ahead then
	}
	if former, found := s.cfg.Ledger.Again(c.Token, c.Key, c.Agent); found && suits(former) {
		return s.again(&former, key, c.Address)
	}
	replaces := s.cfg.Ledger.HasOther(c.Agent, c.Key, now, s.cfg.Grace)
	issued, refusal := s.issue(c, key, suits)
	if refusal == nil && replaces {
		s.cfg.Logger.Warn("a token was used for an agent that has a certificate", slog.String("audit", "replaced"), slog.String("agent", c.Agent), slog.String("token", c.Token), slog.String("addr", c.Address))
	}
	return issued, refusal
}

// token returns the token that the request has the secret of.
func (s *Server) token(in *relayv1.EnrollRequest, now time.Time, who *asker) (token ledger.Token, good bool) {
	token, found := s.cfg.Ledger.Token(hex.EncodeToString(in.GetTokenId()), now)
	hash := sha256.Sum256(in.GetTokenSecret())
	same := subtle.ConstantTimeCompare(hash[:], token.Hash[:]) == 1
	if !found {
		who.why = "it is unknown to this relay, or ended or void"
		return token, false
	}
	who.known = "token " + token.ID
	if !same {
		who.why = "its secret is wrong"
	}
	return token, same
}

// refuseToken refuses a token, at its time.
func refuseToken(ctx context.Context, asked time.Time) *enrol.Refusal {
	wait := time.NewTimer(time.Until(asked.Add(tokenWait)))
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
	}
	return refusef(enrol.ReasonToken, "%v: make another (relay-server agents token NAME)", ledger.ErrToken)
}

// nameOf returns the name that is to be let in.
func nameOf(token ledger.Token, in *relayv1.EnrollRequest) (string, *enrol.Refusal) {
	name := in.GetName()
	switch {
	case name == "" && !token.Prefix:
		name = token.Name
	case name == "":
		name = in.GetFallbackName()
	}
	if name == "" {
		return "", refuseNamef("the token is for agents whose names begin with %q, and none is given (relay-agent enroll --name)", token.Name)
	}
	if err := mtls.CheckAgentName(name); err != nil {
		return "", refuseNamef("%v", err)
	}
	if !token.Reaches(name) {
		return "", refuseNamef("the token is for %s, and not for %s", token.For(), name)
	}
	return name, nil
}

// renewLate is RenewLate. The connection has proved the key of the certificate, and nothing else is known of it.
func (s *Server) renewLate(cert *x509.Certificate, request []byte, who *asker) (*relayv1.IssuedCertificate, *enrol.Refusal) {
	if !s.CanSign() {
		return nil, cannotSign()
	}
	if cert == nil {
		return nil, refusef(enrol.ReasonCertificate, "no certificate was shown that could be renewed")
	}
	id, err := s.cfg.Authority.VerifyAgent(cert)
	if err != nil {
		return nil, refusef(enrol.ReasonCertificate, "%v", err)
	}
	who.ofCertificate(id.Agent, cert)
	if refusal := s.refuseRevoked(id.Agent, cert); refusal != nil {
		return nil, refusal
	}
	if over := time.Since(cert.NotAfter); over > s.cfg.Grace {
		return nil, refusef(enrol.ReasonCertificate, "the certificate of %s ended at %s, which is too long ago (--agents.renewal-grace): make a join token for it (relay-server agents token %s)",
			id.Agent, cert.NotAfter.UTC().Format(time.RFC3339), id.Agent)
	}
	if !s.cfg.Ledger.Has(id.Agent, mtls.Serial(cert)) {
		return nil, refusef(enrol.ReasonCertificate, "the ledger of this relay does not have the certificate of %s: make a join token for it (relay-server agents token %s)", id.Agent, id.Agent)
	}
	if len(request) == 0 { // it was the question whether it is revoked
		return nil, nil
	}
	return s.renewOf(id.Agent, cert, request, who.address)
}

// renew is Renew. The certificate is that of a session, and may be of another authority.
func (s *Server) renew(cert *x509.Certificate, request []byte, who *asker) (*relayv1.IssuedCertificate, *enrol.Refusal) {
	if !s.CanSign() {
		return nil, cannotSign()
	}
	id, err := s.cfg.Authority.VerifyAgent(cert)
	if err != nil {
		return nil, refusef(enrol.ReasonCertificate, "%v", err)
	}
	who.ofCertificate(id.Agent, cert)
	if refusal := s.refuseRevoked(id.Agent, cert); refusal != nil {
		return nil, refusal
	}
	return s.renewOf(id.Agent, cert, request, who.address)
}

// refuseRevoked refuses a certificate that is revoked. It comes first: whoever was thrown out is to hear that and nothing else.
func (s *Server) refuseRevoked(agent string, cert *x509.Certificate) *enrol.Refusal {
	if reason, refused := s.cfg.Ledger.Refuses(agent, mtls.Serial(cert)); refused {
		return refusef(enrol.ReasonRevoked, "%s is revoked: %s", agent, reason)
	}
	return nil
}

func (s *Server) renewOf(agent string, cert *x509.Certificate, request []byte, address string) (*relayv1.IssuedCertificate, *enrol.Refusal) {
	if !s.buckets.take("agent "+agent, ofAgents(s.cfg.Lifetime)) {
		return nil, refusef(enrol.ReasonLater, "%s asks very often: ask again in a while", agent)
	}
	key, refusal := keyOf(request)
	if refusal != nil {
		return nil, refusal
	}
	if digest(key) == digest(cert.PublicKey) {
		return nil, refusef(enrol.ReasonRequest, "certificate request: it has the key of the present certificate, want a new one")
	}
	return s.issue(ledger.Certificate{Agent: agent, By: ledger.ByRenewal, Parent: mtls.Serial(cert), Address: address}, key, func(ledger.Certificate) bool { return false })
}

// keyOf returns the key that is to be certified.
func keyOf(request []byte) (crypto.PublicKey, *enrol.Refusal) {
	if len(request) > enrol.MaxRequestBytes {
		return nil, refusef(enrol.ReasonRequest, "certificate request: it has %d bytes, %d are allowed", len(request), enrol.MaxRequestBytes)
	}
	key, err := authority.CheckRequest(request)
	if err != nil {
		return nil, refusef(enrol.ReasonRequest, "%v", err)
	}
	return key, nil
}

// digest tells keys apart.
func digest(key crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		panic(err) // of a key that was parsed
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// issue signs a certificate, notes it and hands it out, in this order: what is not in the ledger is nobody's. One that the key has by now, from another
// relay of a cluster, is handed out in its place if it suits.
func (s *Server) issue(c ledger.Certificate, key crypto.PublicKey, suits func(former ledger.Certificate) bool) (*relayv1.IssuedCertificate, *enrol.Refusal) {
	cert, err := s.cfg.Authority.SignAgent(c.Agent, key, s.cfg.Lifetime)
	if err != nil {
		return nil, s.cannotSignNow(c.Agent, err)
	}
	c.Serial, c.From, c.To, c.At = mtls.Serial(cert), cert.NotBefore, cert.NotAfter, time.Now()
	err = s.cfg.Ledger.IssueOnce(c, suits)
	had, again := errors.AsType[*ledger.AgainError](err)
	name, badName := errors.AsType[*ledger.NameError](err)
	_, revoked := errors.AsType[*ledger.RevokedError](err)
	switch {
	case err == nil:
	case again:
		return s.again(&had.Former, key, c.Address)
	case errors.Is(err, ledger.ErrToken):
		return nil, refusef(enrol.ReasonToken, "%v", err)
	case badName:
		return nil, refuseNamef("%s", name.Reason)
	case revoked:
		return nil, refusef(enrol.ReasonRevoked, "%s is revoked", c.Agent)
	default:
		s.cfg.Logger.Error("a certificate was not issued: the ledger cannot be written", slog.String("agent", c.Agent), slog.Any("err", err))
		return nil, refusef(enrol.ReasonLater, "the relay cannot write its ledger now, and issues nothing without; its log says why")
	}
	s.cfg.Issued(c)
	return s.handOut(cert), nil
}

// again hands out a certificate once more, to the same key. It is the one that the ledger has, so that whoever asks all the time has no more than one.
func (s *Server) again(former *ledger.Certificate, key crypto.PublicKey, address string) (*relayv1.IssuedCertificate, *enrol.Refusal) {
	cert, err := s.cfg.Authority.SignAgentAgain(former.Agent, key, authority.Former{Serial: former.Serial, NotBefore: former.From, NotAfter: former.To})
	if err != nil {
		return nil, s.cannotSignNow(former.Agent, err)
	}
	s.lines.Log(s.cfg.Logger, slog.LevelInfo, "again "+former.Token, "certificate handed out again", slog.String("audit", "issued_again"), slog.String("agent", former.Agent),
		slog.String("serial", former.Serial), slog.String("token", former.Token), slog.String("addr", address))
	return s.handOut(cert), nil
}

func (s *Server) cannotSignNow(agent string, err error) *enrol.Refusal {
	s.cfg.Logger.Error("a certificate could not be signed", slog.String("agent", agent), slog.Any("err", err))
	return refusef(enrol.ReasonLater, "the relay cannot sign a certificate now; its log says why")
}

// handOut returns what goes to the agent with a certificate.
func (s *Server) handOut(cert *x509.Certificate) *relayv1.IssuedCertificate {
	return &relayv1.IssuedCertificate{Chain: [][]byte{cert.Raw}, Authorities: s.cfg.Certificates.Material().Verifiers(s.cfg.Authority.CACert())}
}
