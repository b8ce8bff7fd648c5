package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// object is what pods and all workloads of pods have in common.
type object struct {
	Kind     string            `json:"kind"`
	Metadata metav1.ObjectMeta `json:"metadata"`
	Spec     json.RawMessage   `json:"spec"`
}

type workload struct {
	Template *corev1.PodTemplateSpec `json:"template"`
}

// printViolations prints one line for each thing that the newest form of a level forbids.
func printViolations(level string) error {
	wanted, err := api.ParseLevel(level)
	if err != nil {
		return err
	}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return err
	}
	reader := yaml.NewYAMLOrJSONDecoder(os.Stdin, 4096)
	pods := 0
	for {
		var each object
		if err := reader.Decode(&each); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		template, err := podOf(each)
		if err != nil {
			return fmt.Errorf("%s %s: %w", each.Kind, each.Metadata.Name, err)
		}
		if template == nil {
			continue
		}
		pods++
		version := api.LevelVersion{Level: wanted, Version: api.LatestVersion()}
		for _, result := range evaluator.EvaluatePod(version, &template.ObjectMeta, &template.Spec) {
			if !result.Allowed {
				fmt.Printf("%s %s: %s: %s\n", each.Kind, each.Metadata.Name, result.ForbiddenReason, result.ForbiddenDetail)
			}
		}
	}
	if pods == 0 {
		return fmt.Errorf("no pods to judge")
	}
	return nil
}

func podOf(each object) (*corev1.PodTemplateSpec, error) {
	switch each.Kind {
	case "Pod":
		template := &corev1.PodTemplateSpec{ObjectMeta: each.Metadata}
		return template, json.Unmarshal(each.Spec, &template.Spec)
	case "Deployment", "DaemonSet", "StatefulSet", "Job":
		var found workload
		err := json.Unmarshal(each.Spec, &found)
		return found.Template, err
	}
	return nil, nil
}
