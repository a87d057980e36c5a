package deploytest_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestIssueForms: each form has what GitHub wants of one, and nothing that it does not know.
func TestIssueForms(t *testing.T) {
	forms, err := filepath.Glob("../../.github/ISSUE_TEMPLATE/*.yml")
	if err != nil || len(forms) < 3 {
		t.Fatalf("%v %v", forms, err)
	}
	for _, path := range forms {
		if filepath.Base(path) == "config.yml" {
			continue
		}
		var form struct {
			Name, Description string
			Labels            []string
			Body              []struct {
				Type        string
				ID          string
				Attributes  struct{ Label, Description, Value, Render string }
				Validations struct{ Required bool }
			}
		}
		decoder := yaml.NewDecoder(strings.NewReader(read(t, path)))
		decoder.KnownFields(true)
		if err := decoder.Decode(&form); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if form.Name == "" || form.Description == "" || len(form.Body) == 0 {
			t.Errorf("%s lacks a name, a description or a body", path)
		}
		var ids []string
		for _, part := range form.Body {
			switch {
			case part.Type == "markdown" && part.Attributes.Value != "":
			case part.Type == "textarea" && part.ID != "" && part.Attributes.Label != "" && !slices.Contains(ids, part.ID):
				ids = append(ids, part.ID)
			default:
				t.Errorf("%s: %+v", path, part)
			}
		}
	}
}
