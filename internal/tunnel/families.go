package tunnel

import (
	"maps"
	"slices"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/metric"
)

// What an agent keeps of a welcome has bounds: it remembers it, on its disk.
const (
	// MaxOwnFamilies bounds the metric families that a relay tells of itself. A relay has less than 60.
	MaxOwnFamilies = 256
	// MaxNameBytes bounds the name of each, and that of the agent label.
	MaxNameBytes = 128
)

// familyTypes are the types of metric families as they travel. It is never written to.
var familyTypes = map[metric.Type]relayv1.FamilyType{
	metric.Untyped:        relayv1.FamilyType_FAMILY_TYPE_UNTYPED,
	metric.Gauge:          relayv1.FamilyType_FAMILY_TYPE_GAUGE,
	metric.Counter:        relayv1.FamilyType_FAMILY_TYPE_COUNTER,
	metric.Summary:        relayv1.FamilyType_FAMILY_TYPE_SUMMARY,
	metric.Histogram:      relayv1.FamilyType_FAMILY_TYPE_HISTOGRAM,
	metric.GaugeHistogram: relayv1.FamilyType_FAMILY_TYPE_GAUGE_HISTOGRAM,
}

// OwnFamiliesToProto returns the families that a relay tells of itself as they travel, sorted by name, the first ones within the bounds.
func OwnFamiliesToProto(own map[string]metric.Type) []*relayv1.OwnFamily {
	var families []*relayv1.OwnFamily
	for _, name := range slices.Sorted(maps.Keys(own)) {
		if len(name) <= MaxNameBytes && len(families) < MaxOwnFamilies {
			families = append(families, &relayv1.OwnFamily{Name: name, Type: familyTypes[own[name]]})
		}
	}
	return families
}

// ownFamiliesFromProto passes over what is beyond the bounds or not known. The relay judges all pushes again, so that what is missing here is
// refused later.
func ownFamiliesFromProto(families []*relayv1.OwnFamily) map[string]metric.Type {
	if len(families) == 0 {
		return nil
	}
	own := make(map[string]metric.Type, min(len(families), MaxOwnFamilies))
	for _, f := range families {
		typ, known := familyType(f.GetType())
		if !known || f.GetName() == "" || len(f.GetName()) > MaxNameBytes {
			continue
		}
		if len(own) == MaxOwnFamilies {
			break
		}
		own[f.GetName()] = typ
	}
	return own
}

func familyType(number relayv1.FamilyType) (metric.Type, bool) {
	for typ, n := range familyTypes {
		if n == number {
			return typ, true
		}
	}
	return 0, false
}
