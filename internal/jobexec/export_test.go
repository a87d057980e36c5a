package jobexec

// NewMetricsFile makes a file in one of the places, and returns its path and what removes it.
func NewMetricsFile(places ...string) (path string, remove func(), err error) {
	f, err := newMetricsFile(places)
	if err != nil {
		return "", nil, err
	}
	return f.path, f.remove, nil
}
