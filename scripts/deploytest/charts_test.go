package deploytest_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	monitoringv1alpha1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1alpha1"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	v1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
)

const helmDir = "../../deploy/helm/"

// A chartCase is a chart with values that turn something on, beside those that are needed.
type chartCase struct {
	chart  string
	values string
}

// needed are the values without which a chart renders nothing.
var needed = map[string]string{
	"relay-server": "image: {repository: registry.example.org/relay-server}\nserverNames: [relay.example.org, 192.0.2.1]\n",
	"relay-agent":  "image: {repository: registry.example.org/relay-agent}\nenroll: {existingSecret: join-token}\n",
}

var chartCases = map[string]chartCase{
	"relay": {"relay-server", ""},
	"relay with all": {"relay-server", `
imagePullSecrets: [{name: registry}]
fullnameOverride: edge-relay
extraArgs: [--web.enable-admin-api, --agents.max-groups=10]
config: |
  push_rules:
    - match: ['{job="backup"}']
      every: 24h
policy: |
  users:
    - user: prometheus
      read: '{job=~".+"}'
      scrape: '{agent=~".+"}'
      status: true
web: {existingSecret: relay-web}
service: {type: NodePort, annotations: {a: b}}
agents: {loadBalancerSourceRanges: [192.0.2.0/24], externalTrafficPolicy: Local, annotations: {a: b}}
persistence: {storageClass: fast, annotations: {a: b}}
podAnnotations: {prometheus.io/scrape: "true"}
podLabels: {team: a}
monitoring:
  scheme: https
  basicAuth: {username: {name: relay-scrape, key: username}, password: {name: relay-scrape, key: password}}
  tlsConfig: {ca: {secret: {name: relay-web-ca, key: ca.crt}}, serverName: relay.example.org}
  serviceMonitor: {enabled: true, labels: {release: prometheus}, interval: 30s}
  scrapeConfig: {enabled: true, labels: {release: prometheus}, interval: 30s}
  rules: {enabled: true, labels: {release: prometheus}}
networkPolicy: {enabled: true, scrapers: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]}
podDisruptionBudget: {enabled: true}
serviceAccount: {annotations: {a: b}}
nodeSelector: {kubernetes.io/os: linux}
tolerations: [{operator: Exists}]
affinity: {nodeAffinity: {}}
priorityClassName: high
`},
	"cluster": {"relay-server", "cluster: {enabled: true}\n"},
	"cluster with all": {"relay-server", `
cluster: {enabled: true, replicas: 5, init: false, serverNames: [r-0.example.org, r-1.example.org, r-2.example.org, r-3.example.org, r-4.example.org], peerCA: {existingSecret: members}}
agents: {loadBalancerSourceRanges: [192.0.2.0/24], annotations: {a: b}}
monitoring:
  scheme: https
  serviceMonitor: {enabled: true, labels: {release: prometheus}, interval: 30s}
  scrapeConfig: {enabled: true}
  rules: {enabled: true}
networkPolicy: {enabled: true, scrapers: [{podSelector: {}}]}
affinity: {nodeAffinity: {}}
`},
	"relay with a policy only": {"relay-server", "policy: 'users: [{anonymous: true}]'\n"},
	"relay without volume":     {"relay-server", "persistence: {enabled: false}\nimage: {digest: \"sha256:" + strings.Repeat("0", 64) + "\"}\nnetworkPolicy: {enabled: true}\nagents: {type: ClusterIP}\n"},
	"agent":                    {"relay-agent", ""},
	"agent for one name":       {"relay-agent", "enroll: {existingSecret: join-token, fromToken: true}\npersistence: {storageClass: fast}\n"},
	"agent as Deployment": {"relay-agent", `
kind: Deployment
enroll: {existingSecret: join-token, namePrefix: prod-, key: join}
service: {enabled: false}
networkPolicy: {enabled: true}
`},
	"agent with all": {"relay-agent", `
kind: DaemonSet
imagePullSecrets: [{name: registry}]
enroll: {existingSecret: join-token, namePrefix: prod-}
extraArgs: [--push.wait=3s]
extraEnv: [{name: HTTPS_PROXY, value: "http://proxy.example.net:3128"}]
extraSecrets: [exporter-password]
podAnnotations: {a: b}
podLabels: {team: a}
networkPolicy: {enabled: true, pushers: [{podSelector: {}}]}
serviceAccount: {annotations: {a: b}}
nodeSelector: {kubernetes.io/os: linux}
tolerations: [{operator: Exists}]
affinity: {nodeAffinity: {}}
priorityClassName: high
service: {annotations: {a: b}}
`},
}

// read returns the values of a case.
func (c chartCase) read(t *testing.T) map[string]any {
	t.Helper()
	var both [2]map[string]any
	for i, text := range []string{c.values, needed[c.chart]} {
		var err error
		if both[i], err = loader.LoadValues(strings.NewReader(text)); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
	}
	return util.CoalesceTables(both[0], both[1])
}

// render renders a chart as helm template does, and returns its files, and what helm install would say.
func render(ctx context.Context, chart string, values map[string]any) (files map[string]string, notes string, err error) {
	return renderAs(ctx, chart, chart, "monitoring", values)
}

// renderAs renders a release of a name.
func renderAs(ctx context.Context, chart, name, namespace string, values map[string]any) (files map[string]string, notes string, err error) {
	loaded, err := loader.LoadDir(helmDir + chart)
	if err != nil {
		return nil, "", err
	}
	options := common.ReleaseOptions{Name: name, Namespace: namespace, IsInstall: true, Revision: 1}
	all, err := util.ToRenderValues(loaded, values, options, nil)
	if err != nil {
		return nil, "", err
	}
	rendered, err := (engine.Engine{Strict: true}).RenderWithContext(ctx, loaded, all)
	if err != nil {
		return nil, "", err
	}
	files = map[string]string{}
	for name, content := range rendered {
		if strings.HasSuffix(name, "NOTES.txt") {
			notes = content
		} else if !strings.HasPrefix(path.Base(name), "_") {
			files[path.Base(name)] = content
		}
	}
	return files, notes, nil
}

// decode reads manifests as a cluster does that takes no field that it does not know.
func decode(t *testing.T, text string) []runtime.Object {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientscheme.AddToScheme, monitoringv1.AddToScheme, monitoringv1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	var objects []runtime.Object
	for reader := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text))); ; {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatal(err)
		}
		if content, err := yaml.ToJSON(document); err != nil || string(content) == "null" { // nothing, or comments
			continue
		}
		object, _, err := decoder.Decode(document, nil, nil)
		if err != nil {
			t.Errorf("%v\n%s", err, document)
			continue
		}
		objects = append(objects, object)
	}
}

func TestCharts(t *testing.T) {
	seen := map[string]bool{}
	for name, c := range chartCases {
		t.Run(name, func(t *testing.T) {
			values := c.read(t)
			for _, m := range lint.RunAll(helmDir+c.chart, values, "monitoring").Messages {
				if m.Severity > support.InfoSev { // an icon is recommended
					t.Error(m)
				}
			}
			files, notes, err := render(t.Context(), c.chart, values)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(notes, "--namespace=monitoring") {
				t.Errorf("the notes: %s", notes)
			}
			var objects []runtime.Object
			for _, file := range slices.Sorted(maps.Keys(files)) {
				objects = append(objects, decode(t, files[file])...)
			}
			for _, o := range objects {
				seen[o.GetObjectKind().GroupVersionKind().Kind] = true
			}
			checkObjects(t, c.chart, objects)
		})
	}
	for _, kind := range []string{
		"StatefulSet", "Deployment", "DaemonSet", "Service", "Secret", "ServiceAccount", "ConfigMap", "NetworkPolicy", "PodDisruptionBudget", "ServiceMonitor", "ScrapeConfig", "PrometheusRule",
	} {
		if !seen[kind] {
			t.Errorf("no case renders a %s", kind)
		}
	}
}

// checkObjects looks at what belongs together in one release: pods and those who select them, programs and what they are started with.
func checkObjects(t *testing.T, chart string, objects []runtime.Object) {
	t.Helper()
	template := podTemplate(objects)
	if template == nil {
		t.Fatal("there are no pods")
	}
	for _, o := range objects {
		switch o := o.(type) {
		case *corev1.Service:
			selector := maps.Clone(o.Spec.Selector)
			delete(selector, appsv1.StatefulSetPodNameLabel) // Kubernetes gives a pod its name
			checkSelects(t, template, &v1.LabelSelector{MatchLabels: selector})
			for _, port := range o.Spec.Ports {
				if !slices.ContainsFunc(template.Spec.Containers[0].Ports, func(p corev1.ContainerPort) bool { return p.Name == port.TargetPort.StrVal }) {
					t.Errorf("service %s leads to port %s, which no container has", o.Name, port.TargetPort.StrVal)
				}
			}
		case *networkingv1.NetworkPolicy:
			checkSelects(t, template, &o.Spec.PodSelector)
		case *policyv1.PodDisruptionBudget:
			checkSelects(t, template, o.Spec.Selector)
		case *corev1.ConfigMap:
			for _, content := range o.Data {
				checkConfig(t, chart, content)
			}
		case *monitoringv1.ServiceMonitor:
			if !slices.ContainsFunc(objects, func(o2 runtime.Object) bool {
				service, ok := o2.(*corev1.Service)
				return ok && labels.SelectorFromSet(o.Spec.Selector.MatchLabels).Matches(labels.Set(service.Labels)) && service.Spec.Ports[0].Name == o.Spec.Endpoints[0].Port
			}) {
				t.Error("the ServiceMonitor selects no service")
			}
		case *monitoringv1.PrometheusRule:
			if len(o.Spec.Groups) < 4 {
				t.Errorf("there are %d groups of rules", len(o.Spec.Groups))
			}
		}
	}
	checkPod(t, chart, template)
}

func checkSelects(t *testing.T, template *corev1.PodTemplateSpec, selector *v1.LabelSelector) {
	t.Helper()
	s, err := v1.LabelSelectorAsSelector(selector)
	if err != nil || s.Empty() || !s.Matches(labels.Set(template.Labels)) {
		t.Errorf("%v does not select the pods, which have %v: %v", selector, template.Labels, err)
	}
}

// podTemplate returns that of the only object that makes pods.
func podTemplate(objects []runtime.Object) *corev1.PodTemplateSpec {
	for _, o := range objects {
		switch o := o.(type) {
		case *appsv1.StatefulSet:
			return &o.Spec.Template
		case *appsv1.Deployment:
			return &o.Spec.Template
		case *appsv1.DaemonSet:
			return &o.Spec.Template
		}
	}
	return nil
}

// checkPod: the pod is what the standard "restricted" lets in, and its program takes its flags.
func checkPod(t *testing.T, chart string, template *corev1.PodTemplateSpec) {
	t.Helper()
	pod, container := template.Spec.SecurityContext, template.Spec.Containers[0]
	c := container.SecurityContext
	if !*pod.RunAsNonRoot || *pod.RunAsUser != 65534 || pod.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault ||
		*c.AllowPrivilegeEscalation || !*c.ReadOnlyRootFilesystem || !slices.Equal(c.Capabilities.Drop, []corev1.Capability{"ALL"}) || *template.Spec.AutomountServiceAccountToken {
		t.Errorf("the pod may do more than it needs: %+v %+v", pod, c)
	}
	if !strings.HasPrefix(container.Image, "registry.example.org/"+chart) || container.Name != chart {
		t.Errorf("image %s of %s", container.Image, container.Name)
	}
	volumes := map[string]bool{"data": true} // of the template of claims
	for _, v := range template.Spec.Volumes {
		volumes[v.Name] = true
	}
	for _, c := range append(template.Spec.InitContainers, container) {
		checkArgs(t, chart, c.Args)
		if !reflect.DeepEqual(c.SecurityContext, container.SecurityContext) || c.Image != container.Image {
			t.Errorf("container %s may do %+v, of %s", c.Name, c.SecurityContext, c.Image)
		}
		for _, mount := range c.VolumeMounts {
			if !volumes[mount.Name] {
				t.Errorf("volume %s is mounted and not there", mount.Name)
			}
		}
	}
}

// TestChartsRefuse: what is missing or mistaken is told, and nothing is rendered.
func TestChartsRefuse(t *testing.T) {
	for name, tt := range map[string]struct{ chart, values, want string }{
		"no image":                  {"relay-server", "image: {repository: ''}", "image.repository is missing"},
		"no name":                   {"relay-server", "serverNames: []", "serverNames is missing"},
		"no token":                  {"relay-agent", "enroll: {existingSecret: ''}", "enroll.existingSecret is missing"},
		"a cluster without volumes": {"relay-server", "cluster: {enabled: true}\npersistence: {enabled: false}", "cluster.enabled wants persistence.enabled"},
		"too few names":             {"relay-server", "cluster: {enabled: true, serverNames: [relay-0.example.org]}", "one name for each pod"},
		"a cluster of two":          {"relay-server", "cluster: {enabled: true, replicas: 2}", "/cluster/replicas"},
		"an unknown key":            {"relay-server", "storage: {size: 1Gi}", "additional properties 'storage' not allowed"},
		"no port":                   {"relay-server", "service: {port: 0}", "/service/port"},
		"no size":                   {"relay-server", "persistence: {size: much}", "/persistence/size"},
		"an unknown kind":           {"relay-agent", "kind: Job", "/kind"},
		"one name for nodes":        {"relay-agent", "kind: DaemonSet\nenroll: {fromToken: true}", "/enroll/fromToken"},
		"monitoring of a port that is shut": {
			"relay-server", "web: {existingSecret: relay-web}\nmonitoring: {serviceMonitor: {enabled: true}}", "monitoring.scheme, basicAuth, authorization and tlsConfig have to say",
		},
		"discovery of a port that is shut": {
			"relay-server", "web: {existingSecret: relay-web}\nmonitoring: {scrapeConfig: {enabled: true}}", "monitoring.scheme, basicAuth, authorization and tlsConfig have to say",
		},
		"two ways to be known": {
			"relay-server", "monitoring: {basicAuth: {password: {name: a, key: b}}, authorization: {credentials: {name: a, key: b}}}", "Prometheus takes one of them",
		},
		"an authority and no TLS": {"relay-server", "monitoring: {tlsConfig: {serverName: relay}}", "monitoring.scheme has to be https"},
		"a password as it is":     {"relay-server", "monitoring: {basicAuth: {password: secret}}", "/monitoring/basicAuth/password"},
		"a misspelt authority":    {"relay-server", "monitoring: {scheme: https, tlsConfig: {caFile: ca.crt}}", "additional properties 'caFile' not allowed"},
		"no flag":                 {"relay-agent", "extraArgs: [push.wait=3s]", "/extraArgs/0"},
	} {
		_, _, err := render(t.Context(), tt.chart, chartCase{tt.chart, tt.values}.read(t))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, tt.want)
		}
	}
}
