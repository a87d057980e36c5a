package mtls_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pushrelay/internal/mtls"
)

// list returns a revocation list of the authority in DER.
func (a *authority) list(tb testing.TB, mutate func(*x509.RevocationList), serials ...int64) []byte {
	tb.Helper()
	template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(24 * time.Hour)}
	for _, serial := range serials {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(serial), RevocationTime: time.Unix(1e9, 0)})
	}
	if mutate != nil {
		mutate(template)
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, a.cert, a.key)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

func listPEM(lists ...[]byte) (out []byte) {
	for _, der := range lists {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})...)
	}
	return out
}

func serial(n int64) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.SerialNumber = big.NewInt(n) }
}

// wantHandshake tells whether an agent with the certificate is let in, and what the relay says if it is not.
func wantHandshake(t *testing.T, relay *mtls.Reloader, lists *mtls.RevocationLists, shown pair, want string) {
	t.Helper()
	revoked := func(_ mtls.PeerID, chains [][]*x509.Certificate) (string, bool) { return lists.Refuses(chains) }
	out := handshake(mtls.RelayTLSConfig(relay, revoked), bareAgent(t, &shown))
	switch {
	case want == "" && (out.relayErr != nil || out.agentErr != nil):
		t.Errorf("handshake: relay %v, agent %v, want none", out.relayErr, out.agentErr)
	case want != "" && (out.relayErr == nil || !strings.Contains(out.relayErr.Error(), want)):
		t.Errorf("handshake: relay %v, want an error with %q", out.relayErr, want)
	case want != "" && mtls.FaultOf(out.relayState, out.relayErr) != mtls.FaultRevoked:
		t.Errorf("handshake: fault %q, want revoked", mtls.FaultOf(out.relayState, out.relayErr))
	}
}

// TestRevocationLists: every shape of a file that is good, and who is let in with it.
func TestRevocationLists(t *testing.T) {
	ca, other := newAuthority(t, "our CA"), newAuthority(t, "other CA")
	intermediate := ca.intermediate(t, "intermediate CA", 5)
	byIntermediate := intermediate.chain(intermediate.sign(t, agentTemplate("i", serial(7))))
	ofRoot, revoked := ca.sign(t, agentTemplate("a", serial(8))), ca.sign(t, agentTemplate("a", serial(7)))
	all := slices.Concat(ca.pem(), other.pem())
	wide := new(big.Int).Lsh(big.NewInt(1), 158)
	widest := ca.sign(t, agentTemplate("a", func(c *x509.Certificate) { c.SerialNumber = wide }))
	for _, tt := range []struct {
		name     string
		file     []byte
		relay    pair // its certificate; of the root if there is none
		refused  []pair
		let      []pair
		contains string // in what the relay says of those that are refused
	}{
		{name: "DER", file: ca.list(t, nil, 7), refused: []pair{revoked}, let: []pair{ofRoot, byIntermediate}, contains: `refusing agent "a": its certificate 7 is in the revocation list of "CN=our CA", since 2001-09-09T01:46:40Z`},
		{name: "PEM", file: listPEM(ca.list(t, nil, 1, 7)), refused: []pair{revoked}, let: []pair{ofRoot}, contains: "since"},
		{name: "PEM with words", file: append([]byte("Certificate Revocation List (CRL):\n    Version 2 (0x1)\n"), listPEM(ca.list(t, nil, 7))...), refused: []pair{revoked}, contains: "since"},
		{name: "empty", file: ca.list(t, nil), let: []pair{revoked, ofRoot}},
		{name: "several of one issuer", file: listPEM(ca.list(t, nil, 8), ca.list(t, nil, 7)), refused: []pair{revoked, ofRoot}, contains: "since"},
		{name: "of several issuers", file: listPEM(other.list(t, nil, 8), ca.list(t, nil, 7)), refused: []pair{revoked}, let: []pair{ofRoot}, contains: "since"},
		{name: "another issuer's", file: other.list(t, nil, 7, 8), let: []pair{revoked, ofRoot}},
		{name: "a large serial number", file: ca.list(t, func(l *x509.RevocationList) {
			l.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: wide, RevocationTime: time.Now()}}
		}), refused: []pair{widest}, contains: "its certificate 4000000000"},
		{name: "a reason", file: ca.list(t, func(l *x509.RevocationList) {
			l.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: big.NewInt(7), RevocationTime: time.Now(), ReasonCode: 6}}
		}), refused: []pair{revoked}, contains: "since"},
		{name: "out of date", file: ca.list(t, func(l *x509.RevocationList) { l.ThisUpdate, l.NextUpdate = time.Unix(1e9, 0), time.Unix(1.1e9, 0) }, 7), refused: []pair{revoked}, let: []pair{ofRoot}, contains: "since"},
		{name: "an intermediate CA", file: ca.list(t, nil, 5), refused: []pair{byIntermediate}, let: []pair{ofRoot}, contains: `the certificate of the intermediate CA "CN=intermediate CA" is in the revocation list of "CN=our CA"`},
		{name: "of an intermediate CA of the relay's chain", file: intermediate.list(t, nil, 7), relay: intermediate.chain(intermediate.sign(t, relayTemplate())), refused: []pair{byIntermediate}, let: []pair{revoked}, contains: "since"},
		{name: "of an intermediate CA beside it", file: slices.Concat(listPEM(intermediate.list(t, nil, 7)), intermediate.pem()), refused: []pair{byIntermediate}, let: []pair{revoked}, contains: "since"},
		{name: "a root, which is trusted as it is", file: ca.list(t, nil, 1), let: []pair{ofRoot, byIntermediate}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			shown := tt.relay
			if shown.cert == nil {
				shown = ca.sign(t, relayTemplate())
			}
			relay := newReloader(t, mtls.Relay, writeFiles(t, shown, all))
			lists, err := mtls.NewRevocationLists(mtls.ListsConfig{File: newFile(t, tt.file), Certificates: relay, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range tt.refused {
				wantHandshake(t, relay, lists, p, tt.contains)
			}
			for _, p := range tt.let {
				wantHandshake(t, relay, lists, p, "")
			}
		})
	}
}

func newFile(tb testing.TB, text []byte) string {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "lists.pem")
	replaceFile(tb, file, text)
	return file
}

// TestRevocationListsThatAreNotTaken: what is not whole, not of an authority of agents, or means something else than it seems.
func TestRevocationListsThatAreNotTaken(t *testing.T) {
	ca, other := newAuthority(t, "our CA"), newAuthority(t, "other CA")
	impostor := newAuthority(t, "our CA")
	stranger := other.intermediate(t, "their intermediate", 5)
	extension := func(id asn1.ObjectIdentifier, critical bool) func(*x509.RevocationList) {
		return func(l *x509.RevocationList) {
			l.ExtraExtensions = []pkix.Extension{{Id: id, Critical: critical, Value: []byte{2, 1, 0}}}
		}
	}
	good := ca.list(t, nil, 7)
	bad := bytes.Clone(good)
	bad[len(bad)-1] ^= 1
	two := listPEM(good, ca.list(t, nil, 8))
	noSigner := newAuthority(t, "our CA", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign })
	files := writeFiles(t, ca.sign(t, relayTemplate()), ca.pem())
	for _, tt := range []struct {
		name string
		file []byte
		want string
	}{
		{"nothing", nil, "no revocation list in it"},
		{"garbage", []byte("nothing of the kind"), "no revocation list in it"},
		{"half a list in DER", good[:len(good)/2], "malformed"},
		{"a list cut off", two[:len(two)*3/4], "BEGIN X509 CRL without an END"},
		{"no list in the block", []byte("-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n"), "line 1: "},
		{"only a certificate", ca.pem(), "no revocation list in it"},
		{"another block", append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY"}), listPEM(good)...), `a block of type "PRIVATE KEY" is not read`},
		{"joined without a line feed", append(bytes.TrimSpace(listPEM(good)), listPEM(good)...), "a line feed is missing"},
		{"another authority", other.list(t, nil, 7), `that of "CN=other CA" is of a CA that is neither in the file of the agents' authorities`},
		{"another authority of the same name", impostor.list(t, nil, 7), "is not signed by it"},
		{"an intermediate CA of somebody else", slices.Concat(listPEM(stranger.list(t, nil, 7)), stranger.pem()), "is not signed by an authority of agents"},
		{"one of two", listPEM(good, other.list(t, nil, 7)), "CN=other CA"},
		{"a signature that is wrong", bad, "is not signed by it"},
		{"a delta", ca.list(t, extension(asn1.ObjectIdentifier{2, 5, 29, 27}, true), 7), "is a delta"},
		{"a critical extension", ca.list(t, extension(asn1.ObjectIdentifier{1, 2, 3}, true), 7), "critical extension 1.2.3"},
		{"an indirect list", ca.list(t, func(l *x509.RevocationList) {
			l.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: big.NewInt(7), RevocationTime: time.Now(), ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: []byte{48, 0}}}}}
		}), "of other issuers"},
		{"too large", make([]byte, 16<<20+1), "is larger than 16 MiB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := newFile(t, tt.file)
			if err := mtls.CheckRevocationLists(files, file); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), file) {
				t.Errorf("CheckRevocationLists() = %v, want an error with %q and the file", err, tt.want)
			}
		})
	}
	if err := mtls.CheckRevocationLists(files, filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("CheckRevocationLists() of no file = %v", err)
	}
	if err := mtls.CheckRevocationLists(files, newFile(t, ca.list(t, extension(asn1.ObjectIdentifier{2, 5, 29, 28}, true), 7))); err != nil {
		t.Errorf("CheckRevocationLists() of a list with a distribution point: %v", err)
	}
	unfit := writeFiles(t, noSigner.sign(t, relayTemplate()), noSigner.pem())
	noSigner.cert.KeyUsage |= x509.KeyUsageCRLSign // which only this test believes
	if err := mtls.CheckRevocationLists(unfit, newFile(t, noSigner.list(t, nil, 7))); err == nil || !strings.Contains(err.Error(), "is not signed by it") {
		t.Errorf("CheckRevocationLists() of a CA that may not sign lists = %v", err)
	}
}

// TestRevocationListsAreReloaded: another list counts within seconds, a bad one changes nothing, and both are told once.
func TestRevocationListsAreReloaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, next := newAuthority(t, "our CA"), newAuthority(t, "next CA")
		files := writeFiles(t, ca.sign(t, relayTemplate()), ca.pem())
		relay := newReloader(t, mtls.Relay, files)
		first, second := ca.sign(t, agentTemplate("a", serial(7))), ca.sign(t, agentTemplate("a", serial(8)))
		file := newFile(t, ca.list(t, nil, 7))
		var log logBuffer
		changes := 0
		lists, err := mtls.NewRevocationLists(mtls.ListsConfig{
			File: file, Certificates: relay, Logger: slog.New(slog.NewTextHandler(&log, nil)), Changed: func() { changes++ },
		})
		if err != nil {
			t.Fatal(err)
		}
		stop := inBackground(t, lists)
		defer stop()
		time.Sleep(time.Minute)
		synctest.Wait()
		wantHandshake(t, relay, lists, first, "since")
		wantHandshake(t, relay, lists, second, "")

		replaceFile(t, file, ca.list(t, nil, 7, 8))
		time.Sleep(6 * time.Second)
		synctest.Wait()
		wantHandshake(t, relay, lists, second, "since")
		if got := lists.Status(); changes != 1 || got.Failing || !got.NextUpdate.Equal(time.Now().Add(24*time.Hour-6*time.Second).Truncate(time.Second)) {
			t.Errorf("%d changes, Status() = %+v", changes, got)
		}

		replaceFile(t, file, next.list(t, nil, 1))
		time.Sleep(time.Hour)
		synctest.Wait()
		wantHandshake(t, relay, lists, second, "since")
		if told := log.take(); strings.Count(told, "level=ERROR") != 1 || !lists.Status().Failing || changes != 1 {
			t.Errorf("want one error; Status() = %+v, %d changes\n%s", lists.Status(), changes, told)
		}
		replaceFile(t, files.CAFile, slices.Concat(ca.pem(), next.pem())) // and with it the list is good
		time.Sleep(time.Minute)
		synctest.Wait()
		if told := log.take(); lists.Status().Failing || changes != 2 || !strings.Contains(told, "it has no list of") {
			t.Errorf("Status() = %+v, %d changes\n%s", lists.Status(), changes, told)
		}
		wantHandshake(t, relay, lists, second, "")

		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if told := log.take(); strings.Count(told, "level=ERROR") != 1 || !lists.Status().Failing {
			t.Errorf("without the file: want one error; Status() = %+v\n%s", lists.Status(), told)
		}
	})
}

// inBackground runs the look at the file until it is told to stop.
func inBackground(t *testing.T, lists *mtls.RevocationLists) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := lists.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// TestRevocationListsOutOfDate: they are told every day, and go on to count.
func TestRevocationListsOutOfDate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority(t, "our CA")
		relay := newReloader(t, mtls.Relay, writeFiles(t, ca.sign(t, relayTemplate()), ca.pem()))
		never := ca.list(t, func(l *x509.RevocationList) { l.NextUpdate = l.ThisUpdate.AddDate(50, 0, 0) }, 8)
		file := newFile(t, listPEM(never, ca.list(t, nil, 7)))
		var log logBuffer
		lists, err := mtls.NewRevocationLists(mtls.ListsConfig{File: file, Certificates: relay, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		stop := inBackground(t, lists)
		defer stop()
		time.Sleep(23 * time.Hour)
		synctest.Wait()
		if told := log.take(); strings.Contains(told, "level=WARN") {
			t.Errorf("warnings before the date:\n%s", told)
		}
		time.Sleep(74 * time.Hour)
		synctest.Wait()
		if told := log.take(); strings.Count(told, `a revocation list is out of date: it goes on to count`) != 4 {
			t.Errorf("want 4 warnings in three days:\n%s", told)
		}
		wantHandshake(t, relay, lists, ca.sign(t, agentTemplate("a", serial(7))), "since")
		replaceFile(t, file, ca.list(t, nil, 7))
		time.Sleep(12 * time.Hour)
		synctest.Wait()
		if told := log.take(); strings.Contains(told, "level=WARN") {
			t.Errorf("warnings of a new list:\n%s", told)
		}
	})
}

// TestRevocationListsCost: the largest file takes a bounded time and memory.
func TestRevocationListsCost(t *testing.T) {
	if testing.Short() {
		t.Skip("signs a list of 100,000 certificates")
	}
	ca := newAuthority(t, "our CA")
	files := writeFiles(t, ca.sign(t, relayTemplate()), ca.pem())
	relay := newReloader(t, mtls.Relay, files)
	file := newFile(t, ca.list(t, func(l *x509.RevocationList) {
		for i := range int64(100_000) {
			serial := new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 127), big.NewInt(i))
			l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: time.Now()})
		}
	}))
	held := heap()
	lists, err := mtls.NewRevocationLists(mtls.ListsConfig{File: file, Certificates: relay, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	grown := heap() - held
	stat, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("a file of %d MB is held in %d MB", stat.Size()>>20, grown>>20)
	if grown > 16<<20 {
		t.Errorf("a file of %d bytes is held in %d bytes", stat.Size(), grown)
	}
	runtime.KeepAlive(lists)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
