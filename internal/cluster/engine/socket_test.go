//go:build unix

package engine_test

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"pushrelay/internal/cluster/engine"
)

// startAt starts a member alone with an admin socket.
func startAt(t *testing.T, socket string) (*engine.Engine, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	return engine.Start(t.Context(), engine.Config{Dir: t.TempDir(), Name: "a", Listen: address, Members: map[string]string{"a": address}, AdminSocket: socket})
}

// shortDir returns a directory whose path leaves room for a socket's.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "admin") //nolint:usetesting // That of a test has its name in it.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// TestAdminSocket: etcdctl works by a socket that is its owner's alone, and gone at the end (C19).
func TestAdminSocket(t *testing.T) {
	socket := filepath.Join(shortDir(t), "etcd")
	e, err := startAt(t, socket)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if info, err := os.Stat(socket); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("the socket is %v, %v", info.Mode(), err)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"unix://" + socket}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Put(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	if got, err := e.Client().Get(t.Context(), "k"); err != nil || got.Count != 1 {
		t.Errorf("what was written at the socket: %v, %v", got, err)
	}
	if _, err := startAt(t, socket); err == nil || !strings.Contains(err.Error(), "somebody else listens") {
		t.Errorf("another etcd with the same socket: %v", err)
	}
	e.Close()
	if _, err := os.Lstat(socket); err == nil {
		t.Error("the socket stays after the end")
	}
}

// TestAdminSocketPlaces: a socket takes the place of a dead one, and of nothing else.
func TestAdminSocketPlaces(t *testing.T) {
	dir := shortDir(t)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, place := range []string{file, "relative"} {
		if e, err := startAt(t, place); err == nil {
			e.Close()
			t.Errorf("an etcd starts with the socket %q", place)
		}
	}
	if got, err := os.ReadFile(file); string(got) != "precious" {
		t.Errorf("the file in the way is %q, %v", got, err)
	}
	dead := filepath.Join(dir, "dead")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	e, err := startAt(t, dead)
	if err != nil {
		t.Fatal(err)
	}
	e.Close()
}
