package wal

import (
	"context"
	"errors"
	"path/filepath"
)

// Scan calls f with every payload that can be read, of all snapshots and segments, also of those that are obsolete; what is
// damaged is passed over. So it is for what each payload says by itself. It locks and changes nothing; an error of f
// ends it.
func Scan(ctx context.Context, cfg Config, f func(payload []byte) error) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	inv, err := list(cfg.FS, cfg.Dir)
	if err != nil {
		return err
	}
	for _, id := range inv.snapshots {
		if err := scan(ctx, cfg, snapshotName(id), snapshotMagic, id, f); err != nil {
			return err
		}
	}
	for _, id := range inv.segments {
		if err := scan(ctx, cfg, segmentName(id), segmentMagic, id, f); err != nil {
			return err
		}
	}
	return nil
}

func scan(ctx context.Context, cfg Config, name, magic string, id uint64, f func(payload []byte) error) error {
	r, err := openReader(cfg.FS, filepath.Join(cfg.Dir, name), magic, id)
	defer func() { r.close() }()
	if _, damaged := errors.AsType[*DamagedError](err); damaged {
		return nil // Without its header nothing in it is known for what it is.
	}
	if err != nil {
		return err
	}
	_, err = r.sound(ignored, func(b batch) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if b.kind != payloads {
			return nil
		}
		return b.each(f)
	})
	return err
}
