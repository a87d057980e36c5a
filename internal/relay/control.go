package relay

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/prometheus/common/version"

	"pushrelay/internal/authority"
	"pushrelay/internal/control"
	"pushrelay/internal/httpserver"
	"pushrelay/internal/ledger"
	"pushrelay/internal/mtls"
	"pushrelay/internal/relayapi"
)

// errLedgerUnused is what a relay says that may not run in memory.
var errLedgerUnused = errors.New("it has, or had, a ledger of certificates: a relay that keeps nothing would let everybody in who was revoked")

// refuses reports whether a certificate of an agent is revoked. In memory only none is.
func (s *Server) refuses(agent, serial string) (reason string, refused bool) {
	if s.ledger == nil {
		return "", false
	}
	return s.ledger.Refuses(agent, serial)
}

// refusesInHandshake is refuses for the handshakes.
func (s *Server) refusesInHandshake(id mtls.PeerID, cert *x509.Certificate) (reason string, refused bool) {
	return s.refuses(id.Agent, mtls.Serial(cert))
}

// openControl opens the ledger and the control socket, once it is known that the data dir is this relay's. Until then commands write to the
// ledger themselves.
func (s *Server) openControl() error {
	dataDir := s.durability.dataDir
	if dataDir == "" {
		return nil
	}
	var err error
	if s.ledger, err = ledger.Open(ledger.Config{Dir: dataDir, Release: version.Version, NoLock: s.opts.DataDirNoLock, Grace: s.opts.AgentRenewalGrace}); err != nil {
		return fmt.Errorf("--data.dir %s: %w", dataDir, err)
	}
	if torn := s.ledger.Torn(); torn > 0 {
		s.logger.Warn("the last record of the ledger of certificates was never written whole and is left out; nobody was told that it counts", slog.Int("bytes", torn))
	}
	cfg := control.Config{
		Ledger: s.ledger, Registry: s.agents, Accounts: s.store, DeleteGroups: s.groups.DeleteOf,
		Place: s.place, Logger: s.logger.With(slog.String("component", "control")), Registerer: s.telemetry,
	}
	if s.authority != nil {
		cfg.CheckIssued, cfg.LongestLife = s.authority.CheckIssued, authority.LongestLife
	}
	s.control = control.New(cfg)
	s.control.UnlistRevoked()
	socket := filepath.Join(dataDir, relayapi.ControlSocket)
	if s.socket, err = httpserver.ListenPrivate(socket, cfg.Logger); err != nil {
		s.logger.Warn("there is no control socket, and no relay-server agents … and agent-certificate while this relay runs: is the path of the data dir too long for a socket, which has 100 bytes on every system, or is something else in its place?",
			slog.String("socket", socket), slog.Any("err", err))
	}
	return nil
}

func (s *Server) closeLedger() error {
	if s.ledger == nil {
		return nil
	}
	return s.ledger.Close()
}
