// The built-in resources that other clients of a cluster follow, those that tell how a cluster looks
// names up, and those that an installation consists of. They are stored, listed and watched as in
// any API server; nothing validates them and no controller acts on them. On demand Services are
// allotted addresses (services.go), and EndpointSlices are built in too, with protobuf.
package main

import (
	"context"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver"
	generatedopenapi "k8s.io/apiextensions-apiserver/pkg/generated/openapi"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	"k8s.io/apiserver/pkg/storage/names"
	"k8s.io/apiserver/pkg/util/openapi"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/util"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

type builtin struct {
	plural, singular string
	namespaced       bool
	one, list        func() runtime.Object
}

// group is a group of built-in resources, with its one version.
type group struct {
	version   schema.GroupVersion
	add       func(*runtime.Scheme) error
	resources []builtin
}

var coreGroup = group{corev1.SchemeGroupVersion, corev1.AddToScheme, []builtin{
	{"namespaces", "namespace", false, object[corev1.Namespace], object[corev1.NamespaceList]},
	{"nodes", "node", false, object[corev1.Node], object[corev1.NodeList]},
	{"services", "service", true, object[corev1.Service], object[corev1.ServiceList]},
	{"endpoints", "endpoints", true, object[corev1.Endpoints], object[corev1.EndpointsList]},
	{"pods", "pod", true, object[corev1.Pod], object[corev1.PodList]},
	{"configmaps", "configmap", true, object[corev1.ConfigMap], object[corev1.ConfigMapList]},
	{"secrets", "secret", true, object[corev1.Secret], object[corev1.SecretList]},
	{"serviceaccounts", "serviceaccount", true, object[corev1.ServiceAccount], object[corev1.ServiceAccountList]},
	{"resourcequotas", "resourcequota", true, object[corev1.ResourceQuota], object[corev1.ResourceQuotaList]},
}}

var otherGroups = []group{
	{appsv1.SchemeGroupVersion, appsv1.AddToScheme, []builtin{
		{"daemonsets", "daemonset", true, object[appsv1.DaemonSet], object[appsv1.DaemonSetList]},
		{"deployments", "deployment", true, object[appsv1.Deployment], object[appsv1.DeploymentList]},
	}},
	{rbacv1.SchemeGroupVersion, rbacv1.AddToScheme, []builtin{
		{"clusterroles", "clusterrole", false, object[rbacv1.ClusterRole], object[rbacv1.ClusterRoleList]},
		{"clusterrolebindings", "clusterrolebinding", false, object[rbacv1.ClusterRoleBinding], object[rbacv1.ClusterRoleBindingList]},
		{"roles", "role", true, object[rbacv1.Role], object[rbacv1.RoleList]},
		{"rolebindings", "rolebinding", true, object[rbacv1.RoleBinding], object[rbacv1.RoleBindingList]},
	}},
	{policyv1.SchemeGroupVersion, policyv1.AddToScheme, []builtin{
		{"poddisruptionbudgets", "poddisruptionbudget", true, object[policyv1.PodDisruptionBudget], object[policyv1.PodDisruptionBudgetList]},
	}},
	{networkingv1.SchemeGroupVersion, networkingv1.AddToScheme, []builtin{
		{"networkpolicies", "networkpolicy", true, object[networkingv1.NetworkPolicy], object[networkingv1.NetworkPolicyList]},
	}},
}

var sliceGroup = group{discoveryv1.SchemeGroupVersion, discoveryv1.AddToScheme, []builtin{
	{"endpointslices", "endpointslice", true, object[discoveryv1.EndpointSlice], object[discoveryv1.EndpointSliceList]},
}}

// builtinGroups are served under /apis; it is set before the server starts.
var builtinGroups []schema.GroupVersion

func object[T any, P interface {
	*T
	runtime.Object
}]() runtime.Object {
	return P(new(T))
}

// openAPI describes the definitions of custom resources, and built-in resources as any object: the
// machinery does not install a resource that it has no description of.
func openAPI() *common.OpenAPIV3Config {
	describe := func(ref common.ReferenceCallback) map[string]common.OpenAPIDefinition {
		definitions := generatedopenapi.GetOpenAPIDefinitions(ref)
		for _, group := range slices.Concat([]group{coreGroup, sliceGroup}, otherGroups) {
			for _, resource := range group.resources {
				anyObject := spec.Schema{SchemaProps: spec.SchemaProps{Type: spec.StringOrArray{"object"}}}
				anyObject.AddExtension("x-kubernetes-preserve-unknown-fields", true)
				definitions[util.GetCanonicalTypeName(resource.one())] = common.OpenAPIDefinition{Schema: anyObject}
			}
		}
		return definitions
	}
	namer := openapinamer.NewDefinitionNamer(apiserver.Scheme, clientscheme.Scheme)
	return genericapiserver.DefaultOpenAPIV3Config(openapi.GetOpenAPIDefinitionsWithoutDisabledFeatures(describe), namer)
}

func installBuiltin(server *genericapiserver.GenericAPIServer, etcd genericoptions.EtcdOptions, s settings) error {
	core, err := groupInfo(coreGroup, etcd)
	if err != nil {
		return err
	}
	if s.serviceRanges != "" {
		found, err := parseRanges(s.serviceRanges)
		if err != nil {
			return err
		}
		found.allot(core.VersionedResourcesStorageMap["v1"]["services"].(*registry.Store))
	}
	if err := server.InstallLegacyAPIGroup(genericapiserver.DefaultLegacyAPIPrefix, core); err != nil {
		return err
	}
	others := otherGroups
	if s.builtinSlices {
		others = append(slices.Clone(others), sliceGroup)
	}
	for _, each := range others {
		builtinGroups = append(builtinGroups, each.version)
		info, err := groupInfo(each, etcd)
		if err != nil {
			return err
		}
		if err := server.InstallAPIGroup(info); err != nil {
			return err
		}
	}
	return nil
}

// groupInfo has one version, whose types serve as the internal ones too: there is nothing to convert.
func groupInfo(g group, etcd genericoptions.EtcdOptions) (*genericapiserver.APIGroupInfo, error) {
	version := g.version
	scheme := runtime.NewScheme()
	utilruntime.Must(g.add(scheme))
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	utilruntime.Must(scheme.SetVersionPriority(version))
	internal := schema.GroupVersion{Group: version.Group, Version: runtime.APIVersionInternal}
	for _, resource := range g.resources {
		scheme.AddKnownTypes(internal, resource.one(), resource.list())
	}
	codecs := serializer.NewCodecFactory(scheme)
	etcd.StorageConfig.Codec = codecs.LegacyCodec(version)
	getter := etcd.CreateRESTOptionsGetter(&genericoptions.SimpleStorageFactory{StorageConfig: etcd.StorageConfig}, nil)
	info := genericapiserver.NewDefaultAPIGroupInfo(version.Group, scheme, runtime.NewParameterCodec(scheme), codecs)
	stores := map[string]rest.Storage{}
	for _, resource := range g.resources {
		store, err := newStore(resource, version.Group, scheme, getter)
		if err != nil {
			return nil, err
		}
		stores[resource.plural] = store
	}
	info.VersionedResourcesStorageMap[version.Version] = stores
	return &info, nil
}

func newStore(r builtin, group string, scheme *runtime.Scheme, getter generic.RESTOptionsGetter) (*registry.Store, error) {
	plural := schema.GroupResource{Group: group, Resource: r.plural}
	anything := strategy{scheme, names.SimpleNameGenerator, r.namespaced}
	store := &registry.Store{
		NewFunc: r.one, NewListFunc: r.list,
		DefaultQualifiedResource:  plural,
		SingularQualifiedResource: schema.GroupResource{Group: group, Resource: r.singular},
		CreateStrategy:            anything,
		UpdateStrategy:            anything,
		DeleteStrategy:            anything,
		TableConvertor:            rest.NewDefaultTableConvertor(plural),
	}
	return store, store.CompleteWithOptions(&generic.StoreOptions{RESTOptions: getter})
}

// strategy takes objects as they come.
type strategy struct {
	runtime.ObjectTyper
	names.NameGenerator
	namespaced bool
}

func (s strategy) NamespaceScoped() bool                                          { return s.namespaced }
func (strategy) AllowCreateOnUpdate() bool                                        { return false }
func (strategy) AllowUnconditionalUpdate() bool                                   { return true }
func (strategy) Canonicalize(runtime.Object)                                      {}
func (strategy) PrepareForUpdate(_ context.Context, new, _ runtime.Object)        { setDefaults(new) }
func (strategy) PrepareForCreate(_ context.Context, new runtime.Object)           { setDefaults(new) }
func (strategy) Validate(context.Context, runtime.Object) field.ErrorList         { return nil }
func (strategy) WarningsOnCreate(context.Context, runtime.Object) []string        { return nil }
func (strategy) WarningsOnUpdate(_ context.Context, _, _ runtime.Object) []string { return nil }
func (strategy) ValidateUpdate(_ context.Context, _, _ runtime.Object) field.ErrorList {
	return nil
}

// setDefaults does for EndpointSlices what the schema of the CRD does, and gives a Deployment that
// says no number its one replica.
func setDefaults(given runtime.Object) {
	switch object := given.(type) {
	case *discoveryv1.EndpointSlice:
		for i := range object.Ports {
			if object.Ports[i].Protocol == nil {
				tcp := corev1.ProtocolTCP
				object.Ports[i].Protocol = &tcp
			}
		}
	case *appsv1.Deployment:
		if object.Spec.Replicas == nil {
			one := int32(1)
			object.Spec.Replicas = &one
		}
	}
}
