// Addresses of Services as a real API server allots them, for a cluster of one family or two: what
// is allotted, what an update keeps, and what it refuses. That is where an object that was applied
// once may be refused at the second time.
//
// The rules are those of pkg/registry/core/service of Kubernetes 1.36, for the types that have an
// address: a create takes the families of the addresses that it names, and PreferDualStack or
// RequireDualStack add the other family where the cluster has it. An update that names no list
// keeps that of before if the first address is the same; one that names a shorter list is refused
// unless the policy is SingleStack; an address does not change. Headless Services and node ports
// are not looked at.
package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/generic/registry"
)

// ranges are those of the cluster, one of a family, the first family first.
type ranges []netip.Prefix

func parseRanges(text string) (found ranges, err error) {
	for _, each := range strings.Split(text, ",") {
		prefix, err := netip.ParsePrefix(each)
		if err != nil {
			return nil, err
		}
		found = append(found, prefix)
	}
	return found, nil
}

func familyOf(address netip.Addr) corev1.IPFamily {
	if address.Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

func (r ranges) of(family corev1.IPFamily) (netip.Prefix, bool) {
	for _, each := range r {
		if familyOf(each.Addr()) == family {
			return each, true
		}
	}
	return netip.Prefix{}, false
}

// allot makes a store of Services allot addresses.
func (r ranges) allot(store *registry.Store) {
	done := func(context.Context, bool) {}
	store.BeginCreate = func(ctx context.Context, created runtime.Object, _ *metav1.CreateOptions) (registry.FinishFunc, error) {
		service := created.(*corev1.Service)
		if len(service.Spec.ClusterIPs) == 0 && service.Spec.ClusterIP != "" {
			service.Spec.ClusterIPs = []string{service.Spec.ClusterIP}
		}
		return done, r.settle(ctx, store, service, nil)
	}
	store.BeginUpdate = func(ctx context.Context, updated, old runtime.Object, _ *metav1.UpdateOptions) (registry.FinishFunc, error) {
		service, before := updated.(*corev1.Service), old.(*corev1.Service)
		keepAllotted(&service.Spec, &before.Spec)
		return done, r.settle(ctx, store, service, before)
	}
}

// keepAllotted gives an update what its client left out.
func keepAllotted(spec, before *corev1.ServiceSpec) {
	if spec.ClusterIP == "" {
		spec.ClusterIP = before.ClusterIP
	}
	if len(spec.ClusterIPs) == 0 {
		spec.ClusterIPs = before.ClusterIPs
	}
	if spec.ClusterIP != before.ClusterIP && slices.Equal(spec.ClusterIPs, before.ClusterIPs) {
		spec.ClusterIPs = []string{spec.ClusterIP}
	}
	if spec.IPFamilyPolicy == nil {
		spec.IPFamilyPolicy = before.IPFamilyPolicy
	}
}

func (r ranges) settle(ctx context.Context, store *registry.Store, service, before *corev1.Service) error {
	spec := &service.Spec
	if spec.Type == "" {
		spec.Type = corev1.ServiceTypeClusterIP
	}
	if spec.Type == corev1.ServiceTypeExternalName || spec.ClusterIP == corev1.ClusterIPNone {
		return nil
	}
	if spec.IPFamilyPolicy == nil {
		single := corev1.IPFamilyPolicySingleStack
		spec.IPFamilyPolicy = &single
	}
	problems := r.validate(spec)
	if before != nil && len(problems) == 0 {
		problems = validateChange(spec, &before.Spec)
	}
	if len(problems) == 0 {
		problems = r.addFamilies(spec, before)
	}
	if len(problems) == 0 {
		problems = r.addAddresses(ctx, store, service)
	}
	if len(problems) == 0 {
		return nil
	}
	return apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Service").GroupKind(), service.Name, problems)
}

var (
	listPath   = field.NewPath("spec", "clusterIPs")
	policyPath = field.NewPath("spec", "ipFamilyPolicy")
)

func (r ranges) validate(spec *corev1.ServiceSpec) (problems field.ErrorList) {
	if spec.ClusterIP == "" && len(spec.ClusterIPs) > 0 {
		problems = append(problems, field.Invalid(listPath, spec.ClusterIPs, "must be empty when `clusterIP` is not specified"))
	}
	if spec.ClusterIP != "" && (len(spec.ClusterIPs) == 0 || spec.ClusterIPs[0] != spec.ClusterIP) {
		problems = append(problems, field.Invalid(listPath, spec.ClusterIPs, "first value must match `clusterIP`"))
	}
	if *spec.IPFamilyPolicy == corev1.IPFamilyPolicyRequireDualStack && len(r) < 2 {
		problems = append(problems, field.Invalid(policyPath, spec.IPFamilyPolicy, "this cluster is not configured for dual-stack services"))
	}
	for i, text := range spec.ClusterIPs {
		address, err := netip.ParseAddr(text)
		if err != nil {
			problems = append(problems, field.Invalid(listPath.Index(i), text, "must be a valid IP address"))
			continue
		}
		if prefix, found := r.of(familyOf(address)); !found {
			problems = append(problems, field.Invalid(listPath.Index(i), spec.ClusterIPs, fmt.Sprintf("%s is not configured on this cluster", familyOf(address))))
		} else if !prefix.Contains(address) {
			problems = append(problems, field.Invalid(listPath, spec.ClusterIPs, fmt.Sprintf("failed to allocate IP %s: the provided IP is not in the valid range", text)))
		}
		if i < len(spec.IPFamilies) && spec.IPFamilies[i] != familyOf(address) {
			problems = append(problems, field.Invalid(listPath.Index(i), text, fmt.Sprintf("expected an %s value as indicated by `ipFamilies[%d]`", spec.IPFamilies[i], i)))
		}
	}
	return problems
}

// validateChange refuses another address, and fewer of them without the policy that says so.
func validateChange(spec, before *corev1.ServiceSpec) (problems field.ErrorList) {
	single := *spec.IPFamilyPolicy == corev1.IPFamilyPolicySingleStack
	if single && slices.Equal(spec.ClusterIPs, before.ClusterIPs) && len(spec.ClusterIPs) > 1 {
		spec.ClusterIPs = spec.ClusterIPs[:1]
	}
	if single && slices.Equal(spec.IPFamilies, before.IPFamilies) && len(spec.IPFamilies) > 1 {
		spec.IPFamilies = spec.IPFamilies[:1]
	}
	for i := range min(len(spec.ClusterIPs), len(before.ClusterIPs)) {
		if spec.ClusterIPs[i] != before.ClusterIPs[i] {
			problems = append(problems, field.Invalid(listPath.Index(i), spec.ClusterIPs, "may not change once set"))
		}
	}
	if !single && len(spec.ClusterIPs) < len(before.ClusterIPs) {
		problems = append(problems, field.Invalid(policyPath, spec.IPFamilyPolicy, "must be 'SingleStack' to release the secondary cluster IP"))
	}
	if !single && len(spec.IPFamilies) < len(before.IPFamilies) {
		problems = append(problems, field.Invalid(policyPath, spec.IPFamilyPolicy, "must be 'SingleStack' to release the secondary IP family"))
	}
	return problems
}

func (r ranges) addFamilies(spec *corev1.ServiceSpec, before *corev1.Service) (problems field.ErrorList) {
	// A Service that prefers two families and stays as it is gets none from a cluster that has grown one.
	if before != nil && *spec.IPFamilyPolicy == corev1.IPFamilyPolicyPreferDualStack &&
		before.Spec.IPFamilyPolicy != nil && *before.Spec.IPFamilyPolicy == corev1.IPFamilyPolicyPreferDualStack &&
		slices.Equal(spec.ClusterIPs, before.Spec.ClusterIPs) && slices.Equal(spec.IPFamilies, before.Spec.IPFamilies) {
		return nil
	}
	for _, text := range spec.ClusterIPs[min(len(spec.IPFamilies), len(spec.ClusterIPs)):] {
		spec.IPFamilies = append(spec.IPFamilies, familyOf(netip.MustParseAddr(text)))
	}
	for i, family := range spec.IPFamilies {
		if _, found := r.of(family); !found {
			problems = append(problems, field.Invalid(field.NewPath("spec", "ipFamilies").Index(i), family, "not configured on this cluster"))
		}
	}
	if len(spec.IPFamilies) == 0 {
		spec.IPFamilies = []corev1.IPFamily{familyOf(r[0].Addr())}
	}
	if *spec.IPFamilyPolicy == corev1.IPFamilyPolicySingleStack {
		if len(spec.ClusterIPs) > 1 || len(spec.IPFamilies) > 1 {
			problems = append(problems, field.Invalid(policyPath, spec.IPFamilyPolicy,
				"must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified"))
		}
		return problems
	}
	for _, each := range r {
		if family := familyOf(each.Addr()); !slices.Contains(spec.IPFamilies, family) {
			spec.IPFamilies = append(spec.IPFamilies, family)
		}
	}
	return problems
}

// addAddresses gives each family its address: one that was named is refused if another Service has it.
func (r ranges) addAddresses(ctx context.Context, store *registry.Store, service *corev1.Service) field.ErrorList {
	used := map[string]bool{}
	listed, err := store.List(request.WithNamespace(ctx, metav1.NamespaceAll), nil)
	if err != nil {
		return field.ErrorList{field.InternalError(listPath, err)}
	}
	for _, each := range listed.(*corev1.ServiceList).Items {
		if each.Name == service.Name && each.Namespace == service.Namespace {
			continue
		}
		for _, address := range each.Spec.ClusterIPs {
			used[address] = true
		}
	}
	for _, address := range service.Spec.ClusterIPs {
		if used[address] {
			return field.ErrorList{field.Invalid(listPath, service.Spec.ClusterIPs, fmt.Sprintf("failed to allocate IP %s: provided IP is already allocated", address))}
		}
	}
	service.Spec.ClusterIPs = slices.Clone(service.Spec.ClusterIPs)
	for _, family := range service.Spec.IPFamilies[len(service.Spec.ClusterIPs):] {
		prefix, _ := r.of(family)
		address := prefix.Addr()
		for range 256 { // the low part is given out only when it is asked for
			address = address.Next()
		}
		for used[address.String()] {
			address = address.Next()
		}
		service.Spec.ClusterIPs = append(service.Spec.ClusterIPs, address.String())
	}
	service.Spec.ClusterIP = service.Spec.ClusterIPs[0]
	return nil
}
