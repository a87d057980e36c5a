package replicated

import "pushrelay/internal/groupstore"

// Limits are what etcd takes at once. The zero value is what an embedded one is started with.
type Limits struct {
	// TxnOps bounds the operations of a transaction, and RequestBytes its size.
	TxnOps, RequestBytes int
}

// Bounds of one transaction, and of one record (C4, C5).
const (
	maxBatchBytes  = 1 << 20
	maxBatchOps    = 8 << 10
	maxRecordBytes = 8 << 20
	// besideRecord is what there is room for in a transaction beside a record: its key, the position, and what etcd puts around them.
	besideRecord = 64 << 10
)

// batchOps and batchBytes bound what is written at once. One record may take more bytes, alone.
func (l Limits) batchOps() int {
	if l.TxnOps == 0 {
		return maxBatchOps
	}
	return min(maxBatchOps, l.TxnOps-1) // with the position
}

func (l Limits) batchBytes() int {
	if l.RequestBytes == 0 {
		return maxBatchBytes
	}
	return min(maxBatchBytes, l.RequestBytes/2)
}

// records returns what bounds a record of a group.
func (l Limits) records(full func() string) groupstore.RecordLimits {
	bounds := groupstore.RecordLimits{
		Bytes: maxRecordBytes, Packed: func(record []byte) int { return len(pack("", record, true)) }, Name: "the limit of relays that are one service, compressed", Full: full,
	}
	if l.RequestBytes > 0 && l.RequestBytes-besideRecord < maxRecordBytes {
		bounds.Bytes, bounds.Name = l.RequestBytes-besideRecord, "compressed: the cluster's etcd sets --max-request-bytes"
	}
	return bounds
}
