package ingest

// TemplateBytes returns what the templates take by their own account.
func TemplateBytes(in *Ingester) int64 {
	in.templates.mu.RLock()
	defer in.templates.mu.RUnlock()
	return in.templates.bytes
}

// TemplatesMade returns how many templates were made.
func TemplatesMade(in *Ingester) int {
	in.templates.mu.RLock()
	defer in.templates.mu.RUnlock()
	return in.templates.made
}
