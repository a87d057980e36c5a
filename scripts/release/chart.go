package main

import (
	"bytes"
	"fmt"
	"strings"
)

// makeCharts packs the charts, as Helm takes them: version and image are those of the release.
func (r *release) makeCharts() error {
	for _, name := range programs {
		var files []file
		for _, f := range r.shared {
			path, ok := strings.CutPrefix(f.path, "deploy/helm/"+name+"/")
			if !ok {
				continue
			}
			if path == "Chart.yaml" {
				const unset = "ersion: 0.0.0\n" // version and appVersion
				if bytes.Count(f.content, []byte(unset)) != 2 {
					return fmt.Errorf("the chart of %s has not two versions to set", name)
				}
				f.content = bytes.ReplaceAll(f.content, []byte(unset), []byte("ersion: "+string(r.version)+"\n"))
			}
			files = append(files, file{name + "/" + path, f.content, f.mode})
		}
		content, err := tarGzip(files, r.time)
		if err != nil {
			return err
		}
		if err := r.write(fmt.Sprintf("%s-%s.tgz", name, r.version), content); err != nil {
			return err
		}
	}
	return nil
}
