package relay

// The doors of the tests.
var (
	NewLegacyInstrument = newLegacyInstrument
	LegacyFamilies      = legacyFamilies
)
