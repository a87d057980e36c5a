package tunnel_test

import (
	"crypto/tls"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"pushrelay/internal/authority"
	"pushrelay/internal/tunnel"
)

// knock dials the agents' port as somebody who is no agent, and returns when the relay has had enough of it.
func (h *house) knock(say func(net.Conn)) {
	h.t.Helper()
	c := must[net.Conn](h.t)(net.Dial("tcp", h.addr))
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(2 * tunnel.HandshakeTimeout)); err != nil {
		h.t.Fatal(err)
	}
	say(c)
	io.Copy(io.Discard, c)
}

// words are sent as they are.
func words(text string) func(net.Conn) {
	return func(c net.Conn) { io.WriteString(c, text) }
}

// shake does a TLS handshake and hangs up, whatever comes of it.
func shake(config *tls.Config) func(net.Conn) {
	return func(c net.Conn) {
		conn := tls.Client(c, config)
		if conn.Handshake() == nil {
			conn.Read(make([]byte, 1)) // the refusal comes here
		}
		conn.Close()
	}
}

// reset hangs up as some load balancers do, without a good-bye.
func reset(c net.Conn) {
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

// strangersCertificate is one of an agent of another authority.
func strangersCertificate(t *testing.T, agent string) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	t.Helper()
	other := must[*authority.Authority](t)(authority.Create(filepath.Join(t.TempDir(), "other"), authority.Config{TrustDomain: "elsewhere"}))
	issued := must[authority.Issued](t)(other.IssueAgent(agent))
	pair := must[tls.Certificate](t)(tls.X509KeyPair(issued.CertPEM, issued.KeyPEM))
	return func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
}

// refusedFor returns how many handshakes were refused for a reason.
func (h *house) refusedFor(reason string) float64 {
	h.t.Helper()
	for _, family := range must[[]*dto.MetricFamily](h.t)(h.metrics.Gather()) {
		for _, m := range family.GetMetric() {
			if family.GetName() == "relay_handshakes_refused_total" && m.GetLabel()[0].GetValue() == reason {
				return m.GetCounter().GetValue()
			}
		}
	}
	h.t.Fatalf("relay_handshakes_refused_total has no reason %q", reason)
	return 0
}

// TestRefusalsAreNamed: whoever comes to the agents' port and is no agent is told apart, in the log and in the metric; what only
// looks whether the port is alive is no warning.
func TestRefusalsAreNamed(t *testing.T) {
	plain := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}
	old := plain.Clone()
	old.MaxVersion = tls.VersionTLS12
	stranger := plain.Clone()
	stranger.GetClientCertificate = strangersCertificate(t, "site-x")
	for _, tt := range []struct {
		name   string
		say    func(net.Conn)
		reason string // of the metric; empty for what is not counted
		level  string
		says   string
	}{
		{name: "opens and closes", say: func(c net.Conn) { c.Close() }},
		{name: "opens and resets", say: reset},
		{"PROXY protocol 1", words("PROXY TCP4 192.0.2.7 192.0.2.1 50000 9443\r\n"), "proxy_protocol", "WARN", "PROXY protocol"},
		{"PROXY protocol 1, unknown", words("PROXY UNKNOWN\r\n"), "proxy_protocol", "WARN", "PROXY protocol"},
		{"PROXY protocol 2", words("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x01\x00\x01\x24\xe3"), "proxy_protocol", "WARN", "PROXY protocol"},
		{"PROXY protocol 2, a health check", words("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"), "proxy_protocol", "WARN", "PROXY protocol"},
		{"HTTP", words("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "not_tls", "WARN", "does not speak TLS"},
		{"HTTP/2 without TLS", words("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "not_tls", "WARN", "does not speak TLS"},
		{"TLS without a certificate", shake(plain), "no_certificate", "INFO", "health check"},
		{"TLS 1.2", shake(old), "tls_version", "INFO", "health check"},
		{"TLS that does not trust the relay", shake(&tls.Config{ServerName: "127.0.0.1"}), "relay_refused", "WARN", "refused the relay's certificate"},
		{"an agent of another relay", shake(stranger), "certificate", "WARN", "site-x"},
		{"silence", func(net.Conn) {}, "timeout", "WARN", "MTU"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHouseAt(t, pusherFunc(noPushes), must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0")))
			h.knock(tt.say)
			if tt.reason == "" {
				h.knock(words("GET / HTTP/1.1\r\n\r\n")) // is decided after the other one
				eventually(t, "the second one is counted", func() bool { return h.refusedFor("not_tls") == 1 })
				if lines := h.log.with(); len(lines) != 1 {
					t.Errorf("the relay logs %q, want the second connection only", lines)
				}
				return
			}
			eventually(t, "it is logged", func() bool { return len(h.log.with()) > 0 })
			if lines := h.log.with("level="+tt.level, "reason="+tt.reason, tt.says); len(lines) != 1 {
				t.Errorf("the relay logs %q, want %s for %s with %q", h.log.with(), tt.level, tt.reason, tt.says)
			}
			if got := h.refusedFor(tt.reason); got != 1 {
				t.Errorf("relay_handshakes_refused_total{reason=%q} = %v, want 1", tt.reason, got)
			}
		})
	}
}

// TestProbesHideNoRefusal: health checks, however many, are one line, and so is each agent that is refused, from one address
// all of them.
func TestProbesHideNoRefusal(t *testing.T) {
	h := newHouse(t, pusherFunc(noPushes))
	probe := &tls.Config{InsecureSkipVerify: true}
	const probes = 40
	for range probes {
		h.knock(shake(probe))
		h.knock(words("GET /healthz HTTP/1.0\r\n\r\n"))
	}
	for _, agent := range []string{"site-a", "site-b", "site-a"} {
		stranger := probe.Clone()
		stranger.GetClientCertificate = strangersCertificate(t, agent)
		h.knock(shake(stranger))
	}
	eventually(t, "all are counted and told", func() bool {
		return h.refusedFor("certificate") == 3 && h.refusedFor("no_certificate") == probes && len(h.log.with("site-b")) > 0
	})
	for want, parts := range map[string][]string{
		"health checks": {"reason=no_certificate"}, "HTTP": {"reason=not_tls"}, "site-a": {"level=WARN", "site-a"}, "site-b": {"level=WARN", "site-b"},
	} {
		if lines := h.log.with(parts...); len(lines) != 1 {
			t.Errorf("%s: %d lines, want 1: %q", want, len(lines), h.log.with())
		}
	}
}

// TestRefusalComesAgain: what is still so a minute later is told again, with how often it was not.
func TestRefusalComesAgain(t *testing.T) {
	inBubble(t, time.Millisecond, func(t *testing.T, h *house, n *network) {
		say := func() {
			c := must[net.Conn](t)(n.Dial(t.Context(), "tcp", h.addr))
			io.WriteString(c, "SSH-2.0-x\r\n")
			io.Copy(io.Discard, c)
			c.Close()
		}
		for range 5 {
			say()
		}
		time.Sleep(time.Minute)
		say()
		if first, again := h.log.with("not_logged=0"), h.log.with("not_logged=4"); len(first) != 1 || len(again) != 1 {
			t.Errorf("the relay logs %q, want a line, and one a minute later for those between", h.log.with())
		}
	})
}
