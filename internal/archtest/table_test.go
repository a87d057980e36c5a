package archtest_test

// A column says which program a package may end up in.
type column string

const (
	relayOnly column = "relay"
	shared    column = "shared"
	agentOnly column = "agent"
	// outside is what no program links: tests, fakes and tools. It may import anything, and nothing else imports it.
	outside column = "outside"
)

// A place is where a package stands in the table.
type place struct {
	layer  int
	column column
}

// table is the import table: every package of the module by its path below the module's root. A package imports lower
// layers of its own column and of the shared one. docs/architecture.md explains it; keep the two together.
var table = map[string]place{
	"cmd/relay-server": {5, relayOnly},
	"cmd/relay-agent":  {5, agentOnly},

	"internal/relay": {4, relayOnly},
	"internal/agent": {4, agentOnly},

	"internal/web":                 {3, relayOnly},
	"internal/queryapi":            {3, relayOnly},
	"internal/httpsd":              {3, relayOnly},
	"internal/gather":              {3, relayOnly},
	"internal/ingest":              {3, relayOnly},
	"internal/keep":                {3, relayOnly},
	"internal/keep/replicated":     {3, relayOnly},
	"internal/lifecycle":           {3, relayOnly},
	"internal/control":             {3, relayOnly},
	"internal/cluster/location":    {3, relayOnly},
	"internal/cluster/link":        {3, relayOnly},
	"internal/cluster/shared":      {3, relayOnly},
	"internal/pushgatewayfile":     {3, relayOnly},
	"internal/tunnel/tunnelserver": {3, relayOnly},
	"internal/enrol/enrolserver":   {3, relayOnly},
	"internal/tunnel":              {3, shared},
	"internal/tunnel/tunnelclient": {3, agentOnly},
	"internal/enrol/enrolclient":   {3, agentOnly},
	"internal/renewal":             {3, agentOnly},
	"internal/agentweb":            {3, agentOnly},

	"internal/groupstore":         {2, relayOnly},
	"internal/cluster/upkeep":     {2, relayOnly},
	"internal/cluster/level":      {2, relayOnly},
	"internal/cluster/engine":     {1, relayOnly},
	"internal/roster":             {2, relayOnly},
	"internal/relayapi":           {2, relayOnly},
	"internal/policy":             {2, relayOnly},
	"internal/recent":             {2, relayOnly},
	"internal/spool":              {2, agentOnly},
	"internal/identity":           {2, agentOnly},
	"internal/targets":            {2, agentOnly},
	"internal/textfile":           {2, agentOnly},
	"internal/agentapi":           {2, agentOnly},
	"internal/cluster/membership": {3, relayOnly},
	"internal/cluster/enginetest": {0, outside},
	"internal/enrol/strangers":    {2, relayOnly},
	"internal/tunnel/established": {1, relayOnly},

	"internal/selector":  {1, shared},
	"internal/webpage":   {1, shared},
	"internal/apiclient": {1, shared},
	"internal/pushflags": {2, shared},
	"internal/pushrules": {2, shared},
	"internal/change":    {1, shared},
	"internal/series":    {1, shared},
	"internal/push":      {1, shared},
	"internal/scrape":    {1, shared},
	"internal/jobexec":   {1, agentOnly},

	"internal/tunnel/relayconn": {1, shared},
	"internal/ledger":           {1, relayOnly},
	"internal/enrol":            {1, shared},
	"internal/commandline":      {0, shared},
	"internal/httpserver":       {0, shared},
	"internal/yamldoc":          {0, shared},
	"internal/loglimit":         {0, shared},
	"internal/datadir":          {0, shared},
	"internal/monotonic":        {0, shared},
	"internal/fileowner":        {0, shared},

	"internal/addup":          {0, shared},
	"internal/authority":      {0, relayOnly},
	"internal/buckets":        {0, shared},
	"internal/exposition":     {0, shared},
	"internal/fields":         {0, shared},
	"internal/grouping":       {0, shared},
	"internal/history":        {0, shared},
	"internal/lifetime":       {0, shared},
	"internal/metric":         {0, shared},
	"internal/smallmap":       {0, shared},
	"internal/sweepmap":       {0, shared},
	"internal/target":         {0, shared},
	"internal/mtls":           {0, shared},
	"internal/wal":            {0, shared},
	"internal/gen/relay/v1":   {0, shared},
	"internal/gen/storage/v1": {0, shared},

	"certs":                    {0, outside},
	"internal/archtest":        {0, outside},
	"internal/e2e":             {0, outside},
	"internal/e2e/alerts":      {0, outside},
	"internal/e2e/certificate": {0, outside},
	"internal/e2e/client":      {0, outside},
	"internal/e2e/cluster":     {0, outside},
	"internal/e2e/command":     {0, outside},
	"internal/e2e/conformance": {0, outside},
	"internal/e2e/docs":        {0, outside},
	"internal/e2e/document":    {0, outside},
	"internal/e2e/durability":  {0, outside},
	"internal/e2e/exporter":    {0, outside},
	"internal/e2e/faultdisk":   {0, outside},
	"internal/e2e/gateway":     {0, outside},
	"internal/e2e/house":       {0, outside},
	"internal/e2e/identity":    {0, outside},
	"internal/e2e/middlebox":   {0, outside},
	"internal/e2e/netns":       {0, outside},
	"internal/e2e/page":        {0, outside},
	"internal/e2e/program":     {0, outside},
	"internal/e2e/promserver":  {0, outside},
	"internal/e2e/scrape":      {0, outside},
	"internal/e2e/spool":       {0, outside},
	"internal/e2e/tunnel":      {0, outside},
	"internal/enroltest":       {0, outside},
	"internal/faultproxy":      {0, outside},
	"internal/hostile":         {0, outside},
	"internal/need":            {0, outside},
	"internal/relaytest":       {0, outside},
	"internal/waltest":         {0, outside},
	"scripts/asunit":           {0, outside},
	"scripts/bench":            {0, outside},
	"scripts/demo":             {0, outside},
	"scripts/fleet":            {0, outside},
	"scripts/mutants":          {0, outside},
	"scripts/testreport":       {0, outside},
}

// arrows are the imports within one layer that the table allows: from -> to -> why.
var arrows = map[string]map[string]string{
	"internal/keep/replicated": {"internal/keep": "it is one of the ways of it"},
	"internal/cluster/link":    {"internal/tunnel": "scrapes and pushes travel between relays as between relay and agent"},
	"internal/authority": {
		"internal/mtls":      "the identity that it signs is the one that mtls reads",
		"internal/fileowner": "keys are written where nobody else may write or put a link",
		"internal/datadir":   "its directory is made and synced as that of what else is kept",
	},
	"internal/datadir": {"internal/fileowner": "a part of it may lie elsewhere, by a link of its owner"},
	"internal/wal": {
		"internal/datadir":   "its directory is made and synced as that of what else is kept",
		"internal/fileowner": "a repair that root runs leaves files that the program's user can open",
	},
	"internal/exposition": {"internal/metric": "what it scans are families of these types and names"},
	"internal/grouping":   {"internal/metric": "labels of a key and of a metric are named by one scheme"},
	"internal/httpserver": {
		"internal/yamldoc":   "a web configuration is read to its end",
		"internal/loglimit":  "a broken web configuration is logged by whoever asks",
		"internal/monotonic": "when a connection or an answer moved last is seen by whoever waits",
	},
	"internal/lifetime": {
		"internal/grouping": "rules are asked by key",
		"internal/addup":    "a rule may say how pushes are added up",
	},
	"internal/loglimit": {"internal/sweepmap": "peers that are quiet are forgotten"},
	"internal/push":     {"internal/change": "what arrives and how it ended are its words"},
	"internal/targets": {
		"internal/textfile":  "directories of text files stand in the same configuration file",
		"internal/pushrules": "push rules stand in the same configuration file",
	},
	"internal/tunnel/tunnelserver": {"internal/tunnel": "the words that both ends of the tunnel share"},
	"internal/tunnel/tunnelclient": {"internal/tunnel": "the words that both ends of the tunnel share"},
	"internal/enrol/enrolclient":   {"internal/tunnel": "what a relay says is made one line of, as everywhere"},
	"internal/renewal":             {"internal/enrol/enrolclient": "a certificate that has ended is renewed by the way of enrolment"},
	"scripts/bench": {
		"internal/faultproxy": "the long way of its measurements is the one of the tests",
		"scripts/asunit":      "what it measures runs as it does in operation",
	},
	"scripts/fleet": {"scripts/asunit": "what it measures runs as it does in operation"},
}

// A ban is a door that stays shut although the layers would allow it.
type ban struct {
	from      []string // packages below the module's root
	to        []string // import paths, each standing for what is below it too; those of the module without its name
	why       string
	reach     reach
	allExcept bool // from names the packages that may; all others of the table, apart from outside ones, may not
}

// A reach says how far a ban looks.
type reach int

const (
	direct     reach = iota // what the package itself imports
	transitive              // everything that is linked with it
)

const grpc = "google.golang.org/grpc"

var bans = []ban{
	{
		from: []string{
			"internal/gen/relay/v1", "internal/tunnel", "internal/tunnel/tunnelserver", "internal/tunnel/tunnelclient",
			"internal/enrol", "internal/enrol/enrolserver", "internal/enrol/enrolclient", "internal/tunnel/relayconn",
			"internal/enrol/strangers", "internal/tunnel/established", "internal/cluster/engine", "internal/cluster/link", "internal/cluster/membership",
			"internal/relay", "internal/agent",
		},
		allExcept: true,
		to:        []string{grpc},
		why:       "the tunnel is one way to carry a push or a scrape; everything else must not notice it",
	},
	{
		from: []string{"cmd/relay-agent"},
		to: []string{
			"internal/groupstore", "internal/keep", "internal/pushgatewayfile", "internal/ingest", "internal/gather",
			"internal/web", "internal/queryapi",
			"internal/authority", "internal/ledger", "internal/control", "internal/httpsd", "internal/roster", "internal/tunnel/tunnelserver", "internal/relay",
			"internal/keep/replicated", "internal/cluster/engine", "internal/cluster/link", "internal/cluster/membership", "go.etcd.io",
		},
		reach: transitive,
		why:   "the agent stays small, and signs, stores and serves nothing that is the relay's",
	},
	{
		from:  []string{"cmd/relay-server"},
		to:    []string{"internal/spool", "internal/targets", "internal/textfile", "internal/identity", "internal/renewal", "internal/enrol/enrolclient", "internal/tunnel/tunnelclient", "internal/agent", "internal/agentapi", "internal/jobexec"},
		reach: transitive,
		why:   "a relay dials other relays, and is never an agent",
	},
	{
		from: []string{"internal/groupstore"},
		to:   []string{"net/http", grpc},
		why:  "the store answers calls; who they came from and how is told by whoever calls",
	},
	{
		from: []string{"internal/spool"},
		to:   []string{"net/http", grpc},
		why:  "the spool answers calls; how a push comes and how a change travels is told by whoever calls",
	},
	{
		from: []string{"internal/jobexec"},
		to:   []string{"net/http"},
		why:  "it runs commands; where what they cost is pushed to is told by whoever runs them",
	},
	{
		from: []string{"internal/roster"},
		to:   []string{grpc},
		why:  "a session is an interface here, so that it may live on another relay",
	},
	{
		from: []string{"internal/tunnel/tunnelserver"},
		to:   []string{"internal/groupstore", "internal/authority"},
		why:  "the tunnel hands pushes to a push.Applier and knows nothing of what becomes of them",
	},
	{
		from:      []string{"internal/exposition"},
		allExcept: true,
		to:        []string{"github.com/prometheus/common/expfmt"},
		why:       "its decoder builds a protobuf tree per series; the scanner in exposition does not. Negotiation and tests may use it",
	},
	{
		from:      []string{"internal/selector", "internal/addup"},
		allExcept: true,
		to:        []string{"github.com/prometheus/prometheus"},
		why:       "what Prometheus and we must read and add alike, it does for us, in packages that bound what that costs: selectors, and native histograms. Anything else of it is a yardstick of the tests",
	},
	{
		from:  []string{"cmd/relay-server", "cmd/relay-agent"},
		to:    []string{"testing", "github.com/rogpeppe/go-internal", "github.com/chromedp"},
		reach: transitive,
		why:   "the yardsticks of the tests are not part of the product",
	},
	{
		from:  []string{"cmd/relay-agent"},
		to:    []string{"github.com/google/go-cmp"},
		reach: transitive,
		why:   "it is a yardstick of the tests; a relay has it all the same, since the backend of etcd's server compares by it",
	},
	{
		allExcept: true,
		to:        []string{"github.com/google/go-cmp"},
		why:       "it is a yardstick of the tests",
	},
	{
		from: []string{
			"internal/cluster/engine", "internal/cluster/level", "internal/cluster/location", "internal/cluster/membership", "internal/cluster/shared", "internal/cluster/upkeep",
			"internal/keep/replicated", "internal/relay",
		},
		allExcept: true,
		to:        []string{"go.etcd.io"},
		why:       "what relays share goes through few hands; a store, a registry and a ledger do not notice it",
	},
}
