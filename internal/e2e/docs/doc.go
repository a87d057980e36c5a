// Package docs tests what documents say by doing it: tutorials, recipes, links, references.
package docs
