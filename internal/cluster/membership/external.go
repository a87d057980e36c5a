package membership

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Settle says which etcd the relay is to use: one that runs by itself, in which the cluster's keys begin with a prefix, or for an empty one that within it. The
// first start of the first member decides that; from then on it is an error if it is another one. It must be called before Prepare.
func (d *Dir) Settle(prefix string) error {
	m := d.Member()
	switch {
	case m.EtcdPrefix == prefix, m.Pending == Leave && m.HasOwnEtcd():
		return nil
	case m.Pending == Import:
		return d.change(func(m *Member) { m.EtcdPrefix = prefix })
	case m.HasOwnEtcd():
		return fmt.Errorf("the etcd of member %q runs within the relays of its cluster: start it without --cluster.etcd-endpoints. For an etcd of your own, all relays leave (relay-server cluster leave), and the last one begins a new cluster", m.Name)
	case prefix == "":
		return fmt.Errorf("the etcd of member %q runs by itself: start it with --cluster.etcd-endpoints", m.Name)
	default:
		return fmt.Errorf("the keys of member %q begin with %q in etcd, and not with %q: give that as --cluster.etcd-prefix", m.Name, m.EtcdPrefix, prefix)
	}
}

// CheckEtcd returns an error unless an etcd that runs by itself has the member's cluster.
func (d *Dir) CheckEtcd(ctx context.Context, client *clientv3.Client) error {
	own := d.Member()
	has, err := d.clusterIn(ctx, client)
	if err == nil && has != own.Cluster {
		err = fmt.Errorf("the etcd that is given has nothing of cluster %s, of which this is member %q, below %q: are --cluster.etcd-endpoints and --cluster.etcd-prefix right?", own.Cluster, own.Name, d.Prefix())
	}
	return err
}

// clusterIn returns the id of the cluster that etcd has; empty for none.
func (d *Dir) clusterIn(ctx context.Context, client *clientv3.Client) (id string, err error) {
	got, err := client.Get(ctx, d.keys().cluster())
	if err != nil {
		return "", fmt.Errorf("asking etcd for the cluster: %w", err)
	}
	for _, kv := range got.Kvs {
		id = string(kv.Value)
	}
	return id, nil
}

// claim makes the cluster's what is below the prefix, and nothing is there then: what an import has left that was cut short is taken away, and what is anybody
// else's is an error.
func (d *Dir) claim(ctx context.Context, client *clientv3.Client) error {
	own, key := d.Member(), d.keys().cluster()
	has, err := d.clusterIn(ctx, client)
	if err != nil {
		return err
	}
	if has == own.Cluster {
		_, err := client.Txn(ctx).Then(
			clientv3.OpDelete(d.Prefix(), clientv3.WithRange(key)), clientv3.OpDelete(key+"\x00", clientv3.WithRange(clientv3.GetPrefixRangeEnd(d.Prefix())))).Commit()
		if err != nil {
			return fmt.Errorf("taking away what an import into etcd has left: %w", err)
		}
		return nil
	}
	there, err := client.Get(ctx, d.Prefix(), clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return fmt.Errorf("asking etcd for the cluster: %w", err)
	}
	if there.Count == 0 {
		put, err := client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).Then(clientv3.OpPut(key, own.Cluster)).Commit()
		if err != nil {
			return fmt.Errorf("beginning the cluster in etcd: %w", err)
		}
		if put.Succeeded {
			return nil
		}
	}
	return fmt.Errorf("beginning the cluster in etcd: there are keys already below %q, of another cluster or another program: give another --cluster.etcd-prefix, or delete them (etcdctl del --prefix %s). Nothing was changed", d.Prefix(), d.Prefix())
}

// Depart takes a member off the list in an etcd that runs by itself, once what it holds is elsewhere. The last one takes away all that the cluster has there.
func (d *Dir) Depart(ctx context.Context, client *clientv3.Client) error {
	own, keys := d.Member(), d.keys()
	got, err := client.Get(ctx, keys.members(), clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return fmt.Errorf("leaving etcd: %w", err)
	}
	ops := []clientv3.Op{clientv3.OpDelete(keys.prefix, clientv3.WithPrefix())}
	for _, kv := range got.Kvs {
		if string(kv.Key) != keys.member(own.Name) {
			ops = []clientv3.Op{clientv3.OpDelete(keys.member(own.Name)), clientv3.OpDelete(keys.running(own.Name))}
		}
	}
	if _, err := client.Txn(ctx).If(clientv3.Compare(clientv3.Value(keys.cluster()), "=", own.Cluster)).Then(ops...).Commit(); err != nil {
		return fmt.Errorf("leaving etcd: %w", err)
	}
	return nil
}
