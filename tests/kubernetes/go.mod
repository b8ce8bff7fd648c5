// What is required stands in v*.mod, one file for each version of Kubernetes: build.py names it to `go build`.
module mcsdns/tests/kubernetes

go 1.25.0
