package ledger

import "os"

// openFile opens a file: whoever may make links on Windows is an administrator.
func openFile(path string, flags int) (*os.File, error) { return os.OpenFile(path, flags, 0) }
