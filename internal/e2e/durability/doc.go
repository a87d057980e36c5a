// Package durability tests what is kept: through crashes, full and damaged disks, repairs, other formats and releases.
package durability
