package main

import (
	"errors"
	"fmt"
	"os"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/storage/driver"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/kubectl/pkg/cmd"
)

// kubectl runs the whole command, with its own flags.
func kubectl(arguments []string) error {
	os.Args = append([]string{"kubectl"}, arguments...)
	return cmd.NewDefaultKubectlCommand().Execute()
}

// upgrade installs a chart as the release `mcsdns`, or upgrades the one that is there, as
// `helm upgrade --install` does without waiting. Values come from standard input. Not every API
// server of the tests has the descriptions of objects that they would be validated by.
func upgrade(kubeconfig, folder, namespace string, validate bool) error {
	chart, err := loader.LoadDir(folder)
	if err != nil {
		return err
	}
	values, err := readValues()
	if err != nil {
		return err
	}
	flags := genericclioptions.NewConfigFlags(false)
	flags.KubeConfig, flags.Namespace = &kubeconfig, &namespace
	config := new(action.Configuration)
	if err := config.Init(flags, namespace, "secret", func(string, ...any) {}); err != nil {
		return err
	}
	history := action.NewHistory(config)
	history.Max = 1
	if _, err := history.Run("mcsdns"); errors.Is(err, driver.ErrReleaseNotFound) {
		install := action.NewInstall(config)
		install.ReleaseName, install.Namespace = "mcsdns", namespace
		install.DisableOpenAPIValidation = !validate
		_, err := install.Run(chart, values)
		return err
	}
	up := action.NewUpgrade(config)
	up.Namespace, up.DisableOpenAPIValidation = namespace, !validate
	release, err := up.Run("mcsdns", chart, values)
	if err == nil {
		fmt.Println(release.Version)
	}
	return err
}
