package deploytest_test

import (
	"crypto/tls"
	"crypto/x509"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	monitoringv1alpha1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1alpha1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// cluster renders the chart of the relay as a cluster, with further values.
func cluster(t *testing.T, values string) (objects []runtime.Object, notes string) {
	t.Helper()
	files, notes, err := render(t.Context(), "relay-server", chartCase{"relay-server", values}.read(t))
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, strings.Join(contentsOf(files), "\n---\n")), notes
}

// only returns the objects of a kind, by name.
func only[T runtime.Object](objects []runtime.Object, name func(T) string) map[string]T {
	found := map[string]T{}
	for _, o := range objects {
		if o, ok := o.(T); ok {
			found[name(o)] = o
		}
	}
	return found
}

// TestCluster: each pod of a cluster is a member or becomes one, by itself; they find one another before they are ready, and no two are taken away at once.
func TestCluster(t *testing.T) {
	objects, notes := cluster(t, "cluster: {enabled: true, serverNames: [r-0.example.org, r-1.example.org, r-2.example.org]}\nnetworkPolicy: {enabled: true}\n")
	set := only(objects, func(s *appsv1.StatefulSet) string { return s.Name })["relay-server"]
	// The first is not ready without a majority: whoever waits for it waits for ever.
	if *set.Spec.Replicas != 3 || set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement || set.Spec.ServiceName != "relay-server-members" || len(set.Spec.VolumeClaimTemplates) != 1 {
		t.Errorf("%d pods, %s, of the service %s, with %d volumes each", *set.Spec.Replicas, set.Spec.PodManagementPolicy, set.Spec.ServiceName, len(set.Spec.VolumeClaimTemplates))
	}
	pod := set.Spec.Template.Spec
	join := []string{
		"--data.dir=/data", "cluster", "join", "--peer-ca-dir=/etc/relay-server-peer-ca", "--name=$(POD_NAME)",
		"--peer-address=$(POD_NAME).relay-server-members.monitoring.svc:9444", "--link-address=$(POD_NAME).relay-server-members.monitoring.svc:9443", "--web-address=$(POD_NAME).relay-server-members.monitoring.svc:9091",
		"--member=relay-server-0.relay-server-members.monitoring.svc:9443", "--member=relay-server-1.relay-server-members.monitoring.svc:9443", "--member=relay-server-2.relay-server-members.monitoring.svc:9443",
		"--or-init-as=relay-server-0",
	}
	if got := pod.InitContainers[0].Args; !slices.Equal(got, join) {
		t.Errorf("a pod joins by\n%q, want\n%q", got, join)
	}
	for _, mount := range pod.Containers[0].VolumeMounts {
		if mount.Name == "peer-ca" {
			t.Error("the relay has the key of the authority that lets in members")
		}
	}
	for _, name := range []string{"relay.example.org", "r-0.example.org", "r-2.example.org"} {
		if !slices.Contains(pod.Containers[0].Args, "--grpc.tls.server-name="+name) {
			t.Errorf("%s is not in the certificate: %q", name, pod.Containers[0].Args)
		}
	}
	apart := pod.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution[0]
	if checkSelects(t, &set.Spec.Template, apart.LabelSelector); apart.TopologyKey != "kubernetes.io/hostname" {
		t.Errorf("pods are apart by %s", apart.TopologyKey)
	}

	services := only(objects, func(s *corev1.Service) string { return s.Name })
	members := services["relay-server-members"]
	if members.Spec.ClusterIP != corev1.ClusterIPNone || !members.Spec.PublishNotReadyAddresses {
		t.Errorf("members find one another by %+v", members.Spec)
	}
	if names := slices.Sorted(maps.Keys(services)); len(names) != 6 || services["relay-server-agents-2"].Spec.Selector[appsv1.StatefulSetPodNameLabel] != "relay-server-2" {
		t.Errorf("the services are %v", names)
	}
	for _, budget := range only(objects, func(b *policyv1.PodDisruptionBudget) string { return b.Name }) {
		if budget.Spec.MaxUnavailable.IntValue() != 1 {
			t.Errorf("%v may be taken away at once", budget.Spec.MaxUnavailable)
		}
	}
	for _, policy := range only(objects, func(p *networkingv1.NetworkPolicy) string { return p.Name }) {
		for _, rule := range policy.Spec.Ingress {
			if rule.Ports[0].Port.StrVal == "peers" {
				checkSelects(t, &set.Spec.Template, rule.From[0].PodSelector)
			}
		}
		if len(policy.Spec.Ingress) != 2 || len(policy.Spec.Egress) != 2 {
			t.Errorf("the policy is %+v", policy.Spec)
		}
	}
	for _, want := range []string{"relay-server-0 to relay-server-2", "cluster.init=false", "Agents dial r-2.example.org:9443", "site-a --relay.address=r-0.example.org:9443 --relay.address=r-1.example.org:9443 --relay.address=r-2.example.org:9443"} {
		if !strings.Contains(notes, want) {
			t.Errorf("the notes do not have %q:\n%s", want, notes)
		}
	}
}

// TestClusterAuthority: the Secret that the chart makes has an authority with its key, and a user's own is taken in its place.
func TestClusterAuthority(t *testing.T) {
	objects, _ := cluster(t, "cluster: {enabled: true}\n")
	secret := only(objects, func(s *corev1.Secret) string { return s.Name })["relay-server-peer-ca"]
	if secret == nil || secret.Annotations["helm.sh/resource-policy"] != "keep" {
		t.Fatalf("the Secret is %+v", secret)
	}
	pair, err := tls.X509KeyPair(secret.Data["tls.crt"], secret.Data["tls.key"])
	if err != nil {
		t.Fatal(err)
	}
	if c := pair.Leaf; !c.IsCA || c.KeyUsage&x509.KeyUsageCertSign == 0 || c.PublicKeyAlgorithm != x509.ECDSA || time.Until(c.NotAfter) < 9*365*24*time.Hour {
		t.Errorf("the certificate is no authority: %+v", c)
	}
	dir := t.TempDir()
	for name, content := range secret.Data {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o440); err != nil {
			t.Fatal(err)
		}
	}
	// Nobody is asked but itself, which is nobody: it begins the cluster.
	if out, err := program(t, "relay-server", "--data.dir="+t.TempDir(), "cluster", "join", "--peer-ca-dir="+dir, "--name=relay-server-0", "--address=relay-server-0.example",
		"--member=relay-server-0.example:9443", "--or-init-as=relay-server-0", "--or-init-after=0s"); err != nil || !strings.Contains(out, "begins cluster") {
		t.Errorf("a pod does not take the authority: %v\n%s", err, out)
	}
	objects, notes := cluster(t, "cluster: {enabled: true, init: false, peerCA: {existingSecret: members}}\n")
	if len(only(objects, func(s *corev1.Secret) string { return s.Name })) != 0 {
		t.Error("a Secret is made beside that of the user")
	}
	set := only(objects, func(s *appsv1.StatefulSet) string { return s.Name })["relay-server"]
	for _, v := range set.Spec.Template.Spec.Volumes {
		if v.Name == "peer-ca" && v.Secret.SecretName != "members" {
			t.Errorf("the authority is that of %s", v.Secret.SecretName)
		}
	}
	if args := set.Spec.Template.Spec.InitContainers[0].Args; strings.Contains(strings.Join(args, " "), "--or-init-as") || strings.Contains(notes, "cluster.init") {
		t.Errorf("pod 0 may begin another cluster: %q", args)
	}
}

// TestClusterMonitoring: what was pushed is asked of one relay, and what each says of itself of all.
func TestClusterMonitoring(t *testing.T) {
	objects, _ := cluster(t, "cluster: {enabled: true}\nmonitoring: {scheme: https, serviceMonitor: {enabled: true}}\n")
	endpoint := only(objects, func(m *monitoringv1.ServiceMonitor) string { return m.Name })["relay-server"].Spec.Endpoints[0]
	if endpoint.Path != "/-/relay-metrics" || endpoint.HonorLabels {
		t.Errorf("each relay is asked by %+v", endpoint)
	}
	pushed := only(objects, func(s *monitoringv1alpha1.ScrapeConfig) string { return s.Name })["relay-server-pushed"].Spec
	if !*pushed.HonorLabels || string(pushed.StaticConfigs[0].Targets[0]) != "relay-server.monitoring.svc:9091" || pushed.Scheme.String() != "https" || pushed.StaticConfigs[0].Labels["job"] != "pushed" {
		t.Errorf("what was pushed is asked by %+v", pushed)
	}
}
