package httpserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// socketMode lets the owner and the group of a Unix socket connect: whoever may write to it may push. privateMode lets its owner alone.
const (
	socketMode  fs.FileMode = 0o660
	privateMode fs.FileMode = 0o600
)

// ListenPrivate makes a Unix socket at the path to which its owner and root may connect, and nobody else; there are no TLS and no passwords. The
// path of a socket has few bytes, 100 on every system. On error nothing stays.
func ListenPrivate(path string, logger *slog.Logger) (*Server, error) {
	l, err := listenUnix(path, privateMode)
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	s := newServer(Config{Logger: logger})
	s.listeners = []listener{{Listener: l, plain: true}}
	return s, nil
}

// hasMode says whether an address is a socket with a file, whose mode says who may connect. Linux' abstract sockets have none.
func hasMode(address string) bool {
	path, isUnix := strings.CutPrefix(address, UnixPrefix)
	return isUnix && !strings.HasPrefix(path, "@")
}

// listenUnix makes a socket at the path, and takes it away again when the listener is closed. It takes the place of a
// socket that a dead process left behind, and of nothing else.
func listenUnix(path string, mode fs.FileMode) (net.Listener, error) {
	if path == "" {
		return nil, errors.New("want a path after unix:, such as unix:/run/relay-agent/agent.sock")
	}
	l, err := listenOn("unix", path)
	if errors.Is(err, syscall.EADDRINUSE) {
		if err := removeDeadSocket(path); err != nil {
			return nil, err
		}
		l, err = listenOn("unix", path)
	}
	if errors.Is(err, syscall.EINVAL) {
		return nil, fmt.Errorf("%w: the path has %d bytes, and few systems take more than 100", err, len(path))
	}
	if err != nil {
		return nil, err
	}
	if !hasMode(UnixPrefix + path) {
		return l, nil
	}
	if err := setSocketMode(path, mode); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// setSocketMode stays in the directory of the socket, whatever link somebody has put in its place.
func setSocketMode(path string, mode fs.FileMode) error {
	dir, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Chmod(filepath.Base(path), mode), dir.Close())
}

// removeDeadSocket removes the socket at the path if nobody listens on it.
func removeDeadSocket(path string) error {
	found, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if found.Mode().Type() != fs.ModeSocket {
		return errors.New("there is a file of that name that is no socket: remove it or take another path")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second) // there is nothing to be cancelled with yet
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		conn.Close()
		return errors.New("another process listens on this socket: stop it or take another path")
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	default: // a listener that is busy, or one that we may not ask
		return fmt.Errorf("the socket is in use, or cannot be asked: %w", err)
	}
}
