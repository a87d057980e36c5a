package buckets

// UpperBound is the upper bound of a bucket of a native histogram.
func UpperBound(index int64, schema int32) float64 { return upperBound(index, schema) }
