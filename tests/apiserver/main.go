// A Kubernetes API server for the tests: the real API machinery and a real etcd in one process, on
// loopback. It serves whatever CustomResourceDefinitions it is given, and beside them what clients
// look for (see core.go and front.go).
//
// This file reads the flags, assembles the server and says when it is ready.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"

	"k8s.io/apiextensions-apiserver/pkg/apiserver"
	"k8s.io/apiextensions-apiserver/pkg/cmd/server/options"
	genericapifilters "k8s.io/apiserver/pkg/endpoints/filters"
	genericapiserver "k8s.io/apiserver/pkg/server"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/apiserver/pkg/util/notfoundhandler"
	"k8s.io/apiserver/pkg/util/webhook"
)

type settings struct {
	data, auth, serviceRanges         string
	port, etcdPort                    int
	watchCache, watchList             bool
	builtinSlices, untilStdinIsClosed bool
	selfReview                        bool
}

func main() {
	var s settings
	flag.StringVar(&s.data, "data", "", "folder for etcd and the certificate")
	flag.IntVar(&s.port, "port", 0, "HTTPS port on 127.0.0.1; 0 takes a free one")
	flag.IntVar(&s.etcdPort, "etcd-port", 0, "etcd's client port; 0 takes a free one")
	flag.StringVar(&s.auth, "auth", "", "file of users, tokens and rules; empty allows everything")
	flag.StringVar(&s.serviceRanges, "service-ranges", "",
		"allot addresses of these ranges to Services, `10.96.0.0/16,fd00:10:96::/112`; empty takes Services as they come")
	flag.BoolVar(&s.watchCache, "watch-cache", true, "serve lists and watches from a watch cache")
	flag.BoolVar(&s.watchList, "watch-list", true, "offer streaming lists")
	flag.BoolVar(&s.builtinSlices, "builtin-slices", false,
		"serve EndpointSlices as a built-in resource, with protobuf, in place of a CRD")
	flag.BoolVar(&s.selfReview, "self-review", true, "tell users who they are, as from 1.28 on")
	flag.BoolVar(&s.untilStdinIsClosed, "until-stdin-is-closed", false,
		"end when standard input ends, so that no server outlives its test")
	flag.Parse()
	debug.SetGCPercent(400) // nearly half of the time to read 10,000 objects went there
	debug.SetMemoryLimit(4 << 30)
	if err := run(s); err != nil {
		fmt.Fprintln(os.Stderr, "apiserver:", err)
		os.Exit(1)
	}
}

func run(s settings) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if s.untilStdinIsClosed {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(0)
		}()
	}
	if s.data == "" {
		return fmt.Errorf("--data is missing; name a folder that is kept over restarts")
	}
	etcd, err := startEtcd(filepath.Join(s.data, "etcd"), s.etcdPort)
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	defer etcd.Close()
	if !s.watchList {
		if err := utilfeature.DefaultMutableFeatureGate.Set("WatchList=false"); err != nil {
			return err
		}
	}
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", s.port))
	if err != nil {
		return err
	}
	front := newFront(s.selfReview)
	go front.endWatchesFrom(ctx)
	server, err := assemble(s, front, listener, clientURL(etcd))
	if err != nil {
		return err
	}
	go report(ctx, s, server, listener, clientURL(etcd))
	return server.GenericAPIServer.PrepareRun().RunWithContext(ctx)
}

// assemble is what options.Config does, less the clients of a second API server.
func assemble(s settings, front *front, listener net.Listener, etcdURL string) (*apiserver.CustomResourceDefinitions, error) {
	o := options.NewCustomResourceDefinitionsServerOptions(os.Stdout, os.Stderr)
	recommended := o.RecommendedOptions
	recommended.Authentication, recommended.Authorization = nil, nil
	recommended.Admission, recommended.CoreAPI = nil, nil
	recommended.Features.EnablePriorityAndFairness = false
	recommended.Etcd.StorageConfig.Transport.ServerList = []string{etcdURL}
	recommended.Etcd.EnableWatchCache = s.watchCache
	serving := recommended.SecureServing
	serving.Listener, serving.BindPort = listener, listener.Addr().(*net.TCPAddr).Port
	serving.BindAddress = net.IPv4(127, 0, 0, 1)
	serving.ServerCert.CertDirectory = filepath.Join(s.data, "tls")
	if err := o.Complete(); err != nil {
		return nil, err
	}
	if err := serving.MaybeDefaultWithSelfSignedCerts("localhost", nil, []net.IP{serving.BindAddress}); err != nil {
		return nil, err
	}
	generic := genericapiserver.NewRecommendedConfig(apiserver.Codecs)
	if err := o.ServerRunOptions.ApplyTo(&generic.Config); err != nil {
		return nil, err
	}
	if err := recommended.ApplyTo(generic); err != nil {
		return nil, err
	}
	if err := o.APIEnablement.ApplyTo(&generic.Config, apiserver.DefaultAPIResourceConfigSource(), apiserver.Scheme); err != nil {
		return nil, err
	}
	generic.OpenAPIV3Config = openAPI()
	return build(s, front, generic, recommended.Etcd)
}

func build(s settings, front *front, generic *genericapiserver.RecommendedConfig, etcd *genericoptions.EtcdOptions) (*apiserver.CustomResourceDefinitions, error) {
	if s.auth != "" {
		permissions := &permissions{path: s.auth}
		generic.Authentication.Authenticator = permissions
		generic.Authorization.Authorizer = permissions
		front.authorizer = permissions
	}
	generic.BuildHandlerChainFunc = front.chain
	config := apiserver.Config{
		GenericConfig: generic,
		ExtraConfig: apiserver.ExtraConfig{
			CRDRESTOptionsGetter: options.NewCRDRESTOptionsGetter(*etcd, generic.ResourceTransformers, generic.StorageObjectCountTracker),
			ServiceResolver:      webhook.NewDefaultServiceResolver(),
			AuthResolverWrapper:  webhook.NewDefaultAuthenticationInfoResolverWrapper(nil, nil, generic.LoopbackClientConfig, nil),
		},
	}
	// As in a kube-apiserver: what is not known yet while it starts is a 503, not a 404.
	notFound := notfoundhandler.New(apiserver.Codecs, genericapifilters.NoMuxAndDiscoveryIncompleteKey)
	server, err := config.Complete().New(genericapiserver.NewEmptyDelegateWithCustomHandler(notFound))
	if err != nil {
		return nil, err
	}
	front.definitions = server.Informers.Apiextensions().V1().CustomResourceDefinitions().Lister()
	front.aggregated = server.GenericAPIServer.AggregatedDiscoveryGroupManager
	return server, installBuiltin(server.GenericAPIServer, *etcd, s)
}

// report prints one line of JSON as soon as every resource can be listed.
func report(ctx context.Context, s settings, server *apiserver.CustomResourceDefinitions, listener net.Listener, etcdURL string) {
	var ca string
	err := waitReady(ctx, server)
	if err == nil {
		ca, err = writeCA(s)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "apiserver:", err)
		os.Exit(1)
	}
	line, _ := json.Marshal(map[string]string{"url": "https://" + listener.Addr().String(), "ca": ca, "etcd": etcdURL})
	fmt.Println(string(line))
}
