package relay

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushrelay/internal/authority"
	"pushrelay/internal/mtls"
)

// authorityDir is where the relay's own certificate authority is in a data dir.
func authorityDir(dataDir string) string { return filepath.Join(dataDir, "authority") }

// hasFiles says that the relay shows a certificate of somebody else's authority, or of another relay's.
func (s *Server) hasFiles() bool { return s.opts.GRPCTLS.CertFile != "" }

// TakesOwnCertificates says whether agents with certificates of the relay's own authority are let in, so that it makes sense to issue them: without
// --grpc.tls files, or with --grpc.tls.also-own-ca. It is known once New has returned.
func (s *Server) TakesOwnCertificates() bool { return s.authority != nil }

// certificateRenewal says what to do about the relay's certificate when it ends.
func (s *Server) certificateRenewal() string {
	if !s.hasFiles() {
		return "the relay renews it by itself, and could not: see the errors in this log; the authority directory of --data.dir must be writable"
	}
	return "issue another (relay-server relay-certificate --out DIR on the relay whose authority it is from, or with your own authority) and put it in place of the --grpc.tls files; no restart is needed"
}

// authorityConfig is that of a data dir. The marker stands beside the directory of the authority, so that it stays when that
// gets lost.
func authorityConfig(dataDir string) authority.Config {
	return authority.Config{Marker: filepath.Join(dataDir, "authority.made")}
}

// openAuthority opens the relay's own authority, or makes it at the first start.
func (s *Server) openAuthority(dataDir string) error {
	cfg := authorityConfig(dataDir)
	var err error
	if s.authority, err = authority.OpenOrCreate(authorityDir(dataDir), cfg); err != nil {
		return err
	}
	if s.authority.Created() {
		// Where it was not wanted, all agents are locked out: another data dir than yesterday's is a mistake easily made.
		s.logger.Warn("made a new certificate authority: only agents with certificates from it can attach",
			slog.String("ca_file", s.authority.Files().CAFile), slog.String("sha256_fingerprint", s.authority.Fingerprint()))
	}
	if mode, exposed := mtls.ExposedKey(s.authority.KeyFile()); exposed {
		s.logger.Warn("key of the certificate authority can be read by others than its owner", slog.String("key_file", s.authority.KeyFile()), slog.String("mode", mode.String()))
	}
	if err := s.authority.Mark(cfg.Marker); err != nil { // the disk may be full, which is no reason to stay away
		s.logger.Warn("a loss of the certificate authority would not be noticed", slog.Any("err", err))
	}
	return nil
}

func (s *Server) serverNames() []string {
	if len(s.opts.GRPCServerNames) > 0 {
		return s.opts.GRPCServerNames
	}
	names := []string{"localhost", "127.0.0.1"}
	if host, err := os.Hostname(); err == nil && host != "" && host != "localhost" {
		names = append(names, host)
	}
	return names
}

// loadCertificates reads the certificate that the tunnel shows, and what says whom it lets in.
func (s *Server) loadCertificates() error {
	files := s.opts.GRPCTLS
	var err error
	switch {
	case !s.hasFiles():
		files, err = s.ensureCertificate()
	case s.authority != nil:
		files.OwnCAFile = s.authority.Files().CAFile
	}
	if err != nil {
		return err
	}
	s.certificates, err = mtls.NewReloader(mtls.Config{Role: mtls.Relay, Files: files, Logger: s.logger, Renewal: s.certificateRenewal()})
	if err != nil || s.opts.GRPCCRLFile == "" {
		return err
	}
	s.revocationLists, err = mtls.NewRevocationLists(mtls.ListsConfig{
		File: s.opts.GRPCCRLFile, Certificates: s.certificates, Logger: s.logger, Changed: s.endListed,
	})
	if err != nil {
		return fmt.Errorf("--grpc.tls.crl-file: %w", err)
	}
	registerListMetrics(s.telemetry, s.revocationLists)
	return nil
}

// verifyingCAs are, in PEM, those by which agents of the relay's own authority verify the relay.
func (s *Server) verifyingCAs() []byte {
	return mtls.EncodeCertificates(s.certificates.Material().Verifiers(s.authority.CACert())...)
}

// endListed ends the sessions of agents that a new revocation list names.
func (s *Server) endListed() {
	if ended := s.agents.EndRevoked(); ended > 0 {
		s.logger.Warn("sessions of agents ended whose certificates a revocation list names", slog.String("audit", "revoked"), slog.Int("sessions_ended", ended))
	}
}

func registerListMetrics(reg prometheus.Registerer, lists *mtls.RevocationLists) {
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "relay_crl_next_update_timestamp_seconds",
		Help: "When the first of the revocation lists of --grpc.tls.crl-file is out of date, in seconds since the epoch; +Inf if none of them says.",
	}, func() float64 {
		if next := lists.Status().NextUpdate; !next.IsZero() {
			return float64(next.Unix())
		}
		return math.Inf(1)
	})
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "relay_crl_last_reload_successful",
		Help: "Whether the file of revocation lists, as it is now, is in use; if not, the earlier lists are.",
	}, func() float64 {
		if lists.Status().Failing {
			return 0
		}
		return 1
	})
}

// ensureCertificate makes or renews the relay's own certificate if that is due, and returns its files.
func (s *Server) ensureCertificate() (mtls.Files, error) {
	ensured, err := s.authority.EnsureRelay(s.serverNames())
	if err != nil {
		return mtls.Files{}, err
	}
	if ensured.Reissued != "" {
		s.logger.Info("issued the relay's own certificate", slog.String("reason", ensured.Reissued), slog.Time("not_after", ensured.NotAfter), slog.Any("names", s.serverNames()))
	}
	return ensured.Files, nil
}

// renewCertificate renews the relay's own certificate in good time; the reloader sees the new file.
func (s *Server) renewCertificate(ctx context.Context) error {
	look := time.NewTicker(time.Hour)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
			if _, err := s.ensureCertificate(); err != nil {
				s.logger.Error("the relay's certificate could not be renewed", slog.Any("err", err))
			}
		}
	}
}
