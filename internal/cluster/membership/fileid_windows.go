package membership

import "os"

// canIdentify says that files are told apart here.
const canIdentify = false

func identify(*os.File) (fileID, error) { return fileID{}, nil }
