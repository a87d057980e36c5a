//go:build linux

package hostile_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// processorTime returns what the relay has used of it.
func (r *relay) processorTime() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.pid))
	if err != nil {
		r.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// resets opens calls on connections of the config and cancels each at once, as fast as the other end takes them, until ctx ends; again and again,
// where that closes them. It returns how many there were.
func resets(ctx context.Context, address string, config *tls.Config, fields [][2]string) (calls int) {
	var block bytes.Buffer
	headers := hpack.NewEncoder(&block)
	for _, f := range fields {
		headers.WriteField(hpack.HeaderField{Name: f[0], Value: f[1], Sensitive: true})
	}
	for ctx.Err() == nil {
		conn, err := (&tls.Dialer{Config: config, NetDialer: &net.Dialer{Timeout: time.Second}}).DialContext(ctx, "tcp", address)
		if err != nil {
			<-time.After(10 * time.Millisecond)
			continue
		}
		ended := context.AfterFunc(ctx, func() { conn.Close() })
		out := bufio.NewWriterSize(conn, 16<<10)
		fmt.Fprint(out, http2.ClientPreface)
		framer := http2.NewFramer(out, nil)
		framer.WriteSettings()
		go func() {
			in := make([]byte, 32<<10)
			for err := error(nil); err == nil; {
				_, err = conn.Read(in)
			}
			conn.Close()
		}()
		for id := uint32(1); ctx.Err() == nil; id += 2 {
			err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: fields[0][1] == http.MethodGet})
			if err == nil {
				err = framer.WriteRSTStream(id, http2.ErrCodeCancel)
			}
			if err != nil {
				break
			}
			calls++
		}
		ended()
		conn.Close()
	}
	return calls
}

// TestRapidResets: calls that are cancelled as they come cost no core, on neither port.
func TestRapidResets(t *testing.T) {
	r := startRelay(t)
	agent := r.issue("evil")
	web := startRelay(t, "--web.config.file="+webTLS(t))
	for _, tt := range []struct {
		name   string
		r      *relay
		attack func(ctx context.Context) int
	}{
		{"agent", r, func(ctx context.Context) int {
			return resets(ctx, r.grpc, agent.tls, [][2]string{
				{":method", "POST"}, {":scheme", "https"}, {":path", "/relay.v1.RelayService/Push"}, {":authority", "r"}, {"content-type", "application/grpc"}, {"te", "trailers"},
			})
		}},
		{"client", web, func(ctx context.Context) int {
			return resets(ctx, web.web, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}, [][2]string{
				{":method", "GET"}, {":scheme", "https"}, {":path", "/metrics"}, {":authority", "r"},
			})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const watched = 5 * time.Second
			ctx, cancel := context.WithTimeout(t.Context(), watched)
			defer cancel()
			before := tt.r.processorTime()
			calls := tt.attack(ctx)
			used := tt.r.processorTime() - before
			t.Logf("%d calls took %s of processor time in %s", calls, used, watched)
			if used > watched/4 {
				t.Errorf("%d calls took %s of processor time in %s", calls, used, watched)
			}
		})
	}
}

// tlsConfig is the name of a web configuration file with a certificate.
const tlsConfig = "web-tls.yml"

// webTLS writes one.
func webTLS(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string][]byte{
		"web.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}),
		"web.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}),
		tlsConfig: []byte("tls_server_config:\n  cert_file: web.crt\n  key_file: web.key\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, tlsConfig)
}
