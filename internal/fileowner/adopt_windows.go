package fileowner

import "os"

// adopt has nothing to do: what is created inherits the rights of its directory.
func adopt(*os.File, string) error { return nil }

func adoptDir(string) error { return nil }
