package relay

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"pushrelay/internal/authority"
	"pushrelay/internal/mtls"
)

// authorityDir is where the relay's own certificate authority is in a data dir.
func authorityDir(dataDir string) string { return filepath.Join(dataDir, "authority") }

// certificateRenewal says what to do about the relay's certificate when it ends.
func (s *Server) certificateRenewal() string {
	if s.authority != nil {
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
