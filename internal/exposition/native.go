package exposition

import (
	"errors"
	"fmt"

	dto "github.com/prometheus/client_model/go"
)

// The resolutions of native histograms that Prometheus takes from a scrape.
const (
	minSchema = -4
	maxSchema = 8
)

// isNative says whether Prometheus takes a histogram for a native one.
func isNative(h *dto.Histogram) bool {
	return len(h.GetPositiveSpan()) > 0 || len(h.GetNegativeSpan()) > 0 || h.GetZeroThreshold() > 0 || h.GetZeroCount() > 0
}

// hasNativeFields says whether a histogram has any field that belongs to native ones only.
func hasNativeFields(h *dto.Histogram) bool {
	if h == nil {
		return false
	}
	return isNative(h) || h.Schema != nil || h.ZeroThreshold != nil || h.ZeroCount != nil || h.ZeroCountFloat != nil ||
		len(h.PositiveDelta)+len(h.PositiveCount)+len(h.NegativeDelta)+len(h.NegativeCount) > 0
}

// checkNative says what is wrong with a histogram that Prometheus takes for a native one, if it is. Prometheus breaks off the whole
// scrape at a native histogram that it does not take, so that none of those may be exposed.
func checkNative(h *dto.Histogram) error {
	if !isNative(h) {
		return nil
	}
	if s := h.GetSchema(); s < minSchema || s > maxSchema {
		return fmt.Errorf("schema %d is not between %d and %d", s, minSchema, maxSchema)
	}
	if isFloatHistogram(h) {
		return checkFloatHistogram(h)
	}
	return checkIntHistogram(h)
}

// isFloatHistogram says whether Prometheus reads the float fields of a native histogram or the integer ones.
func isFloatHistogram(h *dto.Histogram) bool {
	return h.GetSampleCountFloat() > 0 || h.GetZeroCountFloat() > 0 || len(h.GetPositiveCount()) > 0 || len(h.GetNegativeCount()) > 0
}

func checkFloatHistogram(h *dto.Histogram) error {
	if err := checkSpans(h.GetPositiveSpan(), len(h.GetPositiveCount())); err != nil {
		return fmt.Errorf("positive side: %w", err)
	}
	if err := checkSpans(h.GetNegativeSpan(), len(h.GetNegativeCount())); err != nil {
		return fmt.Errorf("negative side: %w", err)
	}
	if h.GetZeroCountFloat() < 0 || h.GetSampleCountFloat() < 0 {
		return errors.New("a count is negative")
	}
	for _, counts := range [][]float64{h.GetPositiveCount(), h.GetNegativeCount()} {
		for _, c := range counts {
			if c < 0 {
				return errors.New("a bucket has a negative count")
			}
		}
	}
	return nil
}

func checkIntHistogram(h *dto.Histogram) error {
	if err := checkSpans(h.GetPositiveSpan(), len(h.GetPositiveDelta())); err != nil {
		return fmt.Errorf("positive side: %w", err)
	}
	if err := checkSpans(h.GetNegativeSpan(), len(h.GetNegativeDelta())); err != nil {
		return fmt.Errorf("negative side: %w", err)
	}
	total := h.GetZeroCount()
	for _, deltas := range [][]int64{h.GetPositiveDelta(), h.GetNegativeDelta()} {
		var count int64
		for _, d := range deltas {
			count += d
			if count < 0 {
				return errors.New("a bucket has a negative count")
			}
			total += uint64(count)
		}
	}
	// Observations that are NaN are in the count and in no bucket, and make the sum NaN.
	if total > h.GetSampleCount() || total < h.GetSampleCount() && h.GetSampleSum() == h.GetSampleSum() {
		return fmt.Errorf("%d observations in buckets, %d in the count", total, h.GetSampleCount())
	}
	return nil
}

// maxBucketIndex bounds the indices of buckets either way. Indices of float64 values stay below 2^19 in every schema; but
// Prometheus adds up offsets in 32 bits when it drops empty buckets, and refuses what comes out if that wraps around.
const maxBucketIndex = 1 << 24

// checkSpans checks that the spans describe as many buckets as there are and stay within the indices of buckets.
func checkSpans(spans []*dto.BucketSpan, buckets int) error {
	var length, end int64
	for i, s := range spans {
		if i > 0 && s.GetOffset() < 0 || s.GetOffset() < -maxBucketIndex {
			return fmt.Errorf("span %d has the offset %d", i+1, s.GetOffset())
		}
		length += int64(s.GetLength())
		if end += int64(s.GetOffset()) + int64(s.GetLength()); end > maxBucketIndex {
			return fmt.Errorf("span %d ends at bucket %d", i+1, end-1)
		}
	}
	if length != int64(buckets) {
		return fmt.Errorf("spans of %d buckets, %d buckets", length, buckets)
	}
	return nil
}
