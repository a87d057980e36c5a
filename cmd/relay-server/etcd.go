package main

import (
	"strconv"
	"strings"

	"github.com/alecthomas/kingpin/v2"

	"pushrelay/internal/cluster/engine"
	"pushrelay/internal/relay"
)

// etcdFlags defines the flags of an etcd that runs by itself. The function that it returns reads its endpoints once they are parsed.
func etcdFlags(serve *kingpin.CmdClause, o *relay.Options) func() []string {
	etcd := &o.ClusterEtcd
	given := serve.Flag("cluster.etcd-endpoints", "Members of an etcd that runs by itself (repeatable, or with commas), which a cluster uses that begins on this relay, instead of one within its relays. All relays of the cluster need it.").PlaceHolder("HOST:PORT|URL").Strings()
	serve.Flag("cluster.etcd-prefix", "What the cluster's keys begin with there.").Default(etcd.Prefix).StringVar(&etcd.Prefix)
	serve.Flag("cluster.etcd-ca-file", "Certificate authority of its members; that of the system without it.").PlaceHolder("FILE").StringVar(&etcd.TLS.CAFile)
	serve.Flag("cluster.etcd-cert-file", "Certificate that it is shown, if it wants one.").PlaceHolder("FILE").StringVar(&etcd.TLS.CertFile)
	serve.Flag("cluster.etcd-key-file", "Key of the certificate.").PlaceHolder("FILE").StringVar(&etcd.TLS.KeyFile)
	serve.Flag("cluster.etcd-credentials-file", "File with one line, user:password, if it wants that.").PlaceHolder("FILE").StringVar(&etcd.CredentialsFile)
	serve.Flag("cluster.etcd-dedicated", "It is there for the relays alone: they compact and defragment it, and refuse pushes before it is full. Its user needs the role root for that.").Default(strconv.FormatBool(o.ClusterEtcdDedicated)).BoolVar(&o.ClusterEtcdDedicated)
	return func() []string { return endpointsOf(*given, etcd.TLS != (engine.TLS{}) || etcd.CredentialsFile != "") }
}

// endpointsOf returns endpoints as URLs: by https for those without a scheme if there is something that is for https alone.
func endpointsOf(given []string, secure bool) (all []string) {
	scheme := "http://"
	if secure {
		scheme = "https://"
	}
	for endpoint := range strings.SplitSeq(strings.Join(given, ","), ",") {
		endpoint = strings.TrimSpace(endpoint)
		switch {
		case endpoint == "":
		case strings.Contains(endpoint, "://"):
			all = append(all, endpoint)
		default:
			all = append(all, scheme+endpoint)
		}
	}
	return all
}
