// Render what deploy/ holds as its users' tools do, judge it as an API server would, and install it.
//
//	render kustomize DIR                  the objects of a kustomization, as YAML
//	render helm CHART NAMESPACE           the objects of the chart; values come from standard input
//	render lint CHART NAMESPACE           what `helm lint` says; values come from standard input
//	render podsecurity LEVEL              pods and workloads on standard input that break a level
//	render kubectl ARGUMENT ...           kubectl itself
//	render upgrade KUBECONFIG CHART NAMESPACE [unvalidated]
//	                                      install or upgrade the chart; values come from standard input
//
// Libraries do the work, so that no test needs kubectl or helm.
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	switch {
	case len(arguments) == 2 && arguments[0] == "kustomize":
		return printKustomization(arguments[1])
	case len(arguments) == 3 && arguments[0] == "helm":
		return printChart(arguments[1], arguments[2])
	case len(arguments) == 3 && arguments[0] == "lint":
		return lintChart(arguments[1], arguments[2])
	case len(arguments) == 2 && arguments[0] == "podsecurity":
		return printViolations(arguments[1])
	case len(arguments) > 1 && arguments[0] == "kubectl":
		return kubectl(arguments[1:])
	case len(arguments) == 4 && arguments[0] == "upgrade":
		return upgrade(arguments[1], arguments[2], arguments[3], true)
	case len(arguments) == 5 && arguments[0] == "upgrade" && arguments[4] == "unvalidated":
		return upgrade(arguments[1], arguments[2], arguments[3], false)
	}
	return fmt.Errorf("usage: render kustomize DIR | helm CHART NAMESPACE | lint CHART NAMESPACE | podsecurity LEVEL | kubectl ARGUMENT ... | upgrade KUBECONFIG CHART NAMESPACE [unvalidated]")
}
