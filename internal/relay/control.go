package relay

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"

	"github.com/prometheus/common/version"

	"pushrelay/internal/authority"
	"pushrelay/internal/cluster/membership"
	"pushrelay/internal/control"
	"pushrelay/internal/httpserver"
	"pushrelay/internal/ledger"
	"pushrelay/internal/mtls"
	"pushrelay/internal/relayapi"
)

// errLedgerUnused is what a relay says that may not run in memory.
var errLedgerUnused = errors.New("it has, or had, a ledger of certificates: a relay that keeps nothing would let everybody in who was revoked")

// revoked reports whether the certificate of an agent is revoked, by the ledger or a revocation list. In memory only there is no ledger.
func (s *Server) revoked(id mtls.PeerID, chains [][]*x509.Certificate) (reason string, revoked bool) {
	if s.ledger != nil {
		if reason, revoked = s.ledger.Refuses(id.Agent, mtls.Serial(chains[0][0])); revoked {
			return reason, true
		}
	}
	if s.revocationLists != nil {
		return s.revocationLists.Refuses(chains)
	}
	return "", false
}

// thrownOut reports whether an agent is thrown out by the ledger, and why.
func (s *Server) thrownOut(agent string) (reason string, out bool) {
	if s.ledger == nil {
		return "", false
	}
	return s.ledger.ThrownOut(agent)
}

// openControl opens the ledger and the control socket, once it is known that the data dir is this relay's. Until then commands write to the
// ledger themselves.
func (s *Server) openControl() error {
	dataDir := s.durability.dataDir
	if dataDir == "" {
		return nil
	}
	var err error
	if s.cluster != nil {
		ledger.Mark(dataDir)
		s.ledger = ledger.On(s.cluster.journal, s.opts.AgentRenewalGrace)
	} else if s.ledger, err = ledger.Open(ledger.Config{Dir: dataDir, Release: version.Version, NoLock: s.opts.DataDirNoLock, Grace: s.opts.AgentRenewalGrace}); err != nil {
		return fmt.Errorf("--data.dir %s: %w", dataDir, err)
	}
	if torn := s.ledger.Torn(); torn > 0 {
		s.logger.Warn("the last record of the ledger of certificates was never written whole and is left out; nobody was told that it counts", slog.Int("bytes", torn))
	}
	cfg := control.Config{
		Ledger: s.ledger, Registry: s.agents, Accounts: s.store, DeleteGroups: s.groups.DeleteOf, Explain: s.explain,
		Place: s.place, Logger: s.logger.With(slog.String("component", "control")), Registerer: s.telemetry,
	}
	if s.authority != nil {
		cfg.CheckIssued = s.authority.CheckIssued
		if s.hasFiles() {
			cfg.CAPEM = s.verifyingCAs
		}
	}
	if !s.hasFiles() {
		cfg.LongestLife = authority.LongestLife
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

// controlRoutes are those of the control socket.
func (s *Server) controlRoutes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", s.control.Handler())
	mux.HandleFunc("GET "+relayapi.GroupsPath, s.groups.List)
	mux.HandleFunc("DELETE "+relayapi.GroupsPath, s.groups.Delete)
	mux.HandleFunc("GET "+relayapi.ControlBackup, s.backup)
	office := control.ClusterHandler(s.office())
	mux.Handle(relayapi.ControlCluster, office)
	mux.Handle(relayapi.ControlCluster+"/", office)
	return mux
}

// office does what the operator says about a cluster.
func (s *Server) office() *membership.Office {
	if s.cluster != nil {
		return s.cluster.office
	}
	return membership.NewOffice(membership.OfficeConfig{
		DataDir: s.dataDir, Release: version.Version, Restart: s.Restart, Logger: s.logger.With(slog.String("component", "cluster")),
	})
}

// backup answers with what the store holds, and the ledger. One is made at a time: each holds what has changed since it began.
func (s *Server) backup(w http.ResponseWriter, r *http.Request) {
	if !s.backingUp.TryLock() {
		http.Error(w, "another backup is being made, ask again when it is done", http.StatusServiceUnavailable)
		return
	}
	defer s.backingUp.Unlock()
	if s.cluster != nil {
		s.cluster.refreshLedger(r.Context())
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if err := s.durability.WriteBackup(r.Context(), httpserver.NewStallWriter(w), s.ledger.State); err != nil {
		s.logger.Warn("a backup was not made", slog.Any("err", err))
		panic(http.ErrAbortHandler) // its reader must not take it for whole
	}
}

func (s *Server) closeLedger() error {
	if s.ledger == nil {
		return nil
	}
	return s.ledger.Close()
}
