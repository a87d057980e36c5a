package membership_test

import (
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"pushrelay/internal/cluster/enginetest"
	"pushrelay/internal/cluster/membership"
)

// TestEtcdOfAnotherCluster: a relay whose etcd runs by itself begins its cluster where nothing is, and goes on where that is: below the same prefix, and with the
// same cluster (C16).
func TestEtcdOfAnotherCluster(t *testing.T) {
	t.Parallel()
	client := enginetest.New(t, 1).Start(t, "a")["a"].Client()
	const prefix = "/somewhere/"
	put := func(key, value string) {
		t.Helper()
		if _, err := client.Put(t.Context(), prefix+key, value); err != nil {
			t.Fatal(err)
		}
	}
	wantRefused := func(what string, err error, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
	// first returns a data dir that is about to begin a cluster there.
	first := func() *membership.Dir {
		t.Helper()
		d := open(t, found(t, "a"))
		if err := d.Settle(prefix); err != nil {
			t.Fatal(err)
		}
		if err := d.Prepare(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := first()
	put("somebody", "else")
	wantRefused("among the keys of others", d.Enter(t.Context(), client), "there are keys already below")
	if got, err := client.Get(t.Context(), prefix, clientv3.WithPrefix()); err != nil || got.Count != 1 {
		t.Errorf("there are %d keys then, %v", got.Count, err)
	}
	if _, err := client.Delete(t.Context(), prefix+"somebody"); err != nil {
		t.Fatal(err)
	}
	if err := d.Enter(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	put("half", "imported")
	if err := d.Enter(t.Context(), client); err != nil { // it was cut short
		t.Fatal(err)
	}
	if got, err := client.Get(t.Context(), prefix+"half"); err != nil || got.Count != 0 {
		t.Errorf("what the first attempt has left is there: %v, %v", got.Kvs, err)
	}
	wantRefused("where another cluster is", first().Enter(t.Context(), client), "there are keys already below")
	if err := d.Done(); err != nil {
		t.Fatal(err)
	}
	if err := d.Settle(prefix); err != nil {
		t.Errorf("the same prefix: %v", err)
	}
	wantRefused("no etcd", d.Settle(""), "start it with --cluster.etcd-endpoints")
	wantRefused("another prefix", d.Settle("/elsewhere/"), "give that as --cluster.etcd-prefix")
	if err := d.Enter(t.Context(), client); err != nil {
		t.Errorf("the same etcd: %v", err)
	}
	put("cluster", "another one")
	wantRefused("an etcd with another cluster", d.Enter(t.Context(), client), "has nothing of cluster")
	if _, err := client.Delete(t.Context(), prefix+"cluster"); err != nil {
		t.Fatal(err)
	}
	wantRefused("an etcd with none", d.Enter(t.Context(), client), "has nothing of cluster")
	within := open(t, found(t, "b"))
	if err := within.Done(); err != nil {
		t.Fatal(err)
	}
	wantRefused("an etcd beside one's own", within.Settle(prefix), "start it without --cluster.etcd-endpoints")
}
