package series

import (
	"slices"
	"strings"

	"pushrelay/internal/metric"
)

// The two families that every group has. They are made from two numbers per group when they are asked for, and a pushed
// family of one of these names is ignored.
const (
	PushTimeFamily    = "push_time_seconds"
	FailureTimeFamily = "push_failure_time_seconds"
)

// The families of groups of whose life something is declared (L4). A pushed family of one of these names is refused.
const (
	UpFamily     = "push_up"
	DueFamily    = "push_due_timestamp_seconds"
	ExpiryFamily = "push_expiry_timestamp_seconds"
)

// IsOfStore says whether a family of that name is made by the store and not pushed.
func IsOfStore(name string) bool {
	return name == PushTimeFamily || name == FailureTimeFamily || slices.Contains(lifeFamilies, name)
}

// isTimeFamily says whether a family of that name is the store's own to make.
func isTimeFamily(name []byte) bool {
	return string(name) == PushTimeFamily || string(name) == FailureTimeFamily
}

// IsReserved says whether nobody may push a family of that name (S17): it is one of the relay's own that begin with relay_, or has the name of one
// of its series, or is one that groups have of the store.
//
// Other names that begin with relay_ are everybody's: many programs are relays.
func IsReserved[T string | []byte](name T) bool {
	if hasPrefix(name, "push_") {
		return slices.Contains(lifeFamilies, string(name))
	}
	if !hasPrefix(name, "relay_") {
		return false
	}
	if hasPrefix(name, "relay_agent_") || hasPrefix(name, "relay_cluster_") {
		return true
	}
	if _, found := slices.BinarySearch(RelayFamilies, string(name)); found {
		return true
	}
	base, _, suffixed := metric.CutSuffix(string(name))
	_, found := slices.BinarySearch(RelayFamilies, base)
	return suffixed && found
}

var lifeFamilies = []string{UpFamily, DueFamily, ExpiryFamily}

// RelayFamilies are the families of the relay whose names begin with relay_, sorted. A test of the relay holds the list to what it registers.
var RelayFamilies = strings.Fields(`
	relay_agents_file_failures_total
	relay_agents_limit_groups
	relay_agents_limit_series
	relay_agents_revoked
	relay_attaches_refused_total
	relay_build_info
	relay_certificate_not_after_seconds
	relay_certificates_issued_total
	relay_changes_total
	relay_config_last_reload_success_timestamp_seconds
	relay_config_last_reload_successful
	relay_crl_last_reload_successful
	relay_crl_next_update_timestamp_seconds
	relay_enrolments_refused_total
	relay_exposition_duration_seconds
	relay_gather_errors_total
	relay_groups
	relay_groups_expired_total
	relay_handshakes_refused_total
	relay_mass_expiries_total
	relay_policy_refusals_total
	relay_push_duration_seconds
	relay_push_size_bytes
	relay_pushes_total
	relay_quarantined_families
	relay_scrape_duration_seconds
	relay_scrapes_total
	relay_sessions_ended_total
	relay_store_bytes
	relay_store_copies_seen
	relay_store_groups
	relay_store_limit_groups
	relay_store_limit_series
	relay_store_log_bytes
	relay_store_log_queued_bytes
	relay_store_log_segments
	relay_store_log_sync_duration_seconds
	relay_store_losses
	relay_store_series
	relay_store_snapshot_bytes
	relay_store_snapshot_failures_total
	relay_store_snapshot_timestamp_seconds
	relay_store_tombstones
	relay_store_writable
	relay_target_sets_refused_total
	relay_target_times_clamped_total
	relay_targets_contested_total
`)
