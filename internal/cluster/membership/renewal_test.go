package membership_test

import (
	"context"
	"crypto/x509"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/common/promslog"

	"pushrelay/internal/cluster/membership"
	"pushrelay/internal/mtls"
)

// TestRenewal: a member renews its certificate when half of its life is over, and not before, in the file that etcd reads as well.
func TestRenewal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		at := membership.Addresses{Peer: "a.example:9444", Link: "a.example:9443", Web: "a.example:9091"}
		d, err := membership.Found(membership.Founding{DataDir: dir, Name: "a", Addresses: at})
		if err != nil {
			t.Fatal(err)
		}
		certs, err := membership.NewCertificates(membership.CertificatesConfig{Dir: d, Logger: promslog.NewNopLogger()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { certs.Run(ctx) })
		first := leafOf(t, dir)
		time.Sleep(180 * 24 * time.Hour)
		synctest.Wait()
		if !leafOf(t, dir).Equal(first) {
			t.Error("it is renewed before half of its life is over")
		}
		time.Sleep(4 * 24 * time.Hour)
		synctest.Wait()
		second := leafOf(t, dir)
		shown, err := certs.ServerTLS().GetCertificate(nil)
		if err != nil || !shown.Leaf.Equal(second) || second.NotAfter.Sub(first.NotAfter) < 180*24*time.Hour {
			t.Errorf("it ends %s, and is shown until %s, %v", second.NotAfter, shown.Leaf.NotAfter, err)
		}
		if id, err := mtls.MemberIDFromCertificate(second); err != nil || id.Name != "a" || id.Cluster != d.Member().Cluster || second.VerifyHostname("a.example") != nil {
			t.Errorf("it is of %+v, %v, for %q", id, err, second.DNSNames)
		}
		cancel()
		running.Wait()
	})
}

func leafOf(t *testing.T, dataDir string) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dataDir, "cluster", "member.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := mtls.ParsePair(text, text)
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}
