package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
)

// socketMode lets its owner and root connect, and nobody else.
const socketMode = 0o600

// checkSocket returns an error unless a socket can be made at the path: etcd would take whatever is there away.
func (cfg *Config) checkSocket(ctx context.Context) error {
	path := cfg.AdminSocket
	if path == "" {
		return nil
	}
	if !filepath.IsAbs(path) {
		return fmt.Errorf("starting etcd: the admin socket %q is not an absolute path", path)
	}
	there, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("starting etcd: the admin socket: %w", err)
	case there.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("starting etcd: the admin socket %q: something else is there", path)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if conn, err := new(net.Dialer).DialContext(ctx, "unix", path); err == nil {
		conn.Close()
		return fmt.Errorf("starting etcd: the admin socket %q: somebody else listens there", path)
	}
	return nil // it is of one that has died
}

// closeSocket lets nobody connect to the socket but its owner, before etcd takes anybody.
func (cfg *Config) closeSocket() error {
	if cfg.AdminSocket == "" {
		return nil
	}
	if err := os.Chmod(cfg.AdminSocket, socketMode); err != nil {
		return fmt.Errorf("starting etcd: the admin socket: %w", err)
	}
	return nil
}
