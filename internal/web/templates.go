package web

import "io/fs"

// templates are the files of the templates, by their names alone.
func templates() fs.FS {
	files, err := fs.Sub(templateFiles, "templates")
	if err != nil {
		panic(err) // they are in the program
	}
	return files
}
