package main

import (
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
)

func readValues() (chartutil.Values, error) {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return nil, err
	}
	return chartutil.ReadValues(text)
}

// printChart renders as `helm template mcsdns CHART` does, without the notes. The values are held
// against values.schema.json.
func printChart(folder, namespace string) error {
	chart, err := loader.LoadDir(folder)
	if err != nil {
		return err
	}
	given, err := readValues()
	if err != nil {
		return err
	}
	release := chartutil.ReleaseOptions{Name: "mcsdns", Namespace: namespace, Revision: 1, IsInstall: true}
	values, err := chartutil.ToRenderValues(chart, given, release, chartutil.DefaultCapabilities)
	if err != nil {
		return err
	}
	files, err := engine.Render(chart, values)
	if err != nil {
		return err
	}
	names := make([]string, 0, len(files))
	for name := range files {
		if path.Base(name)[0] != '_' && strings.HasSuffix(name, ".yaml") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Printf("---\n# Source: %s\n%s\n", name, files[name])
	}
	return nil
}

// lintChart prints one line for each message; any but information is a failure.
func lintChart(folder, namespace string) error {
	values, err := readValues()
	if err != nil {
		return err
	}
	linter := lint.AllWithKubeVersion(folder, values, namespace, nil)
	for _, message := range linter.Messages {
		fmt.Println(message)
	}
	if linter.HighestSeverity > support.InfoSev {
		return fmt.Errorf("the chart has lint")
	}
	return nil
}
