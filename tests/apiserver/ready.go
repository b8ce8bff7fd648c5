// When the server is ready, and the certificate it leaves for clients.
package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"time"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// waitReady waits for /readyz, and for every custom resource to be listed and watched once: its
// storage starts with the first request for it.
func waitReady(ctx context.Context, server *apiserver.CustomResourceDefinitions) error {
	clients, err := kubernetes.NewForConfig(server.GenericAPIServer.LoopbackClientConfig)
	if err != nil {
		return err
	}
	client := clients.RESTClient()
	definitions := server.Informers.Apiextensions().V1().CustomResourceDefinitions().Lister()
	ready := map[string]bool{}
	return wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, 10*time.Minute, true, func(ctx context.Context) (bool, error) {
		if !ready["/readyz"] && client.Get().AbsPath("/readyz").Do(ctx).Error() != nil {
			return false, nil
		}
		ready["/readyz"] = true
		found, err := definitions.List(labels.Everything())
		if err != nil {
			return false, err
		}
		all := true
		for _, path := range served(found) {
			ready[path] = ready[path] || watches(ctx, client, path)
			all = all && ready[path]
		}
		return all, nil
	})
}

// served are the paths of all lists of custom resources.
func served(definitions []*apiextensionsv1.CustomResourceDefinition) (paths []string) {
	for _, definition := range definitions {
		if !apihelpers.IsCRDConditionTrue(definition, apiextensionsv1.Established) {
			continue
		}
		for _, version := range definition.Spec.Versions {
			if version.Served {
				paths = append(paths, "/apis/"+definition.Spec.Group+"/"+version.Name+"/"+definition.Spec.Names.Plural)
			}
		}
	}
	return paths
}

// watches is false while the watch cache is being filled: a watch is answered with 429 then.
func watches(ctx context.Context, client rest.Interface, path string) bool {
	var list metav1.PartialObjectMetadataList
	body, err := client.Get().AbsPath(path).Param("limit", "1").MaxRetries(0).DoRaw(ctx)
	if err != nil || json.Unmarshal(body, &list) != nil {
		return false
	}
	stream, err := client.Get().AbsPath(path).Param("watch", "true").
		Param("resourceVersion", list.ResourceVersion).MaxRetries(0).Stream(ctx)
	if err == nil {
		stream.Close()
	}
	return err == nil
}

// writeCA leaves the certificate by which clients verify this server; it is the same after a restart.
func writeCA(s settings) (string, error) {
	ca, err := certificateAuthority(filepath.Join(s.data, "tls", "apiserver.crt"))
	if err != nil {
		return "", err
	}
	path := filepath.Join(s.data, "ca.crt")
	return path, os.WriteFile(path, ca, 0o644)
}

// certificateAuthority is the last certificate of the chain that the server made for itself.
func certificateAuthority(chain string) ([]byte, error) {
	rest, err := os.ReadFile(chain)
	if err != nil {
		return nil, err
	}
	var last *pem.Block
	for block, tail := pem.Decode(rest); block != nil; block, tail = pem.Decode(tail) {
		last = block
	}
	if last == nil {
		return nil, errors.New(chain + ": no certificate in it; remove the folder")
	}
	return pem.EncodeToMemory(last), nil
}
