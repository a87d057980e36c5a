package exposition

// Limits bound what one body, and all bodies together, may cost. In each, 0 means no limit.
type Limits struct {
	// MaxBodyBytes is the size of a body as it travels.
	MaxBodyBytes int64
	// MaxDecompressedBytes is the size of a body with its content encoding removed.
	MaxDecompressedBytes int64
	// MaxInflightBytes is the sum of all decompressed bodies held at once.
	MaxInflightBytes int64
	// MaxSeries counts exposition lines: the samples of the body and those that it stands for, such as a +Inf bucket that
	// was left out. No more families than that may be named either.
	MaxSeries int
	// MaxLabels counts the labels of one series, without le and quantile, and those of a grouping key.
	MaxLabels int
	// MaxLabelLength is the size in bytes of a label's name or value, also in a grouping key, and of a metric name.
	MaxLabelLength int
}

// DefaultLimits returns the limits of relays and agents that were given no others.
func DefaultLimits() Limits {
	return Limits{
		MaxBodyBytes:         16 << 20,
		MaxDecompressedBytes: 64 << 20,
		MaxInflightBytes:     256 << 20,
		MaxSeries:            100_000,
		MaxLabels:            64,
		MaxLabelLength:       16 << 10,
	}
}
