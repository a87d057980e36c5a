// Package faultdisk has disks that are small, full or damaged.
package faultdisk
