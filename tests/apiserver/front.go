// What stands before the API machinery and is not in it: the list of API groups, access reviews,
// and a way to end every watch as the server itself does when a watch's time is up.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sort"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apihelpers "k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	listers "k8s.io/apiextensions-apiserver/pkg/client/listers/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericapiserver "k8s.io/apiserver/pkg/server"
)

const (
	reviews        = "/apis/authorization.k8s.io/v1/"
	selfReviewPath = reviews + "selfsubjectaccessreviews"
	reviewPath     = reviews + "subjectaccessreviews"
	whoPath        = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
)

type front struct {
	authorizer  authorizer.Authorizer // nil allows everything
	definitions listers.CustomResourceDefinitionLister
	aggregated  aggregated.ResourceManager
	api         http.Handler
	tellsWho    bool // as API servers do from 1.28 on

	mu      sync.Mutex
	watches map[*http.Request]context.CancelFunc
}

func newFront(tellsWho bool) *front {
	return &front{tellsWho: tellsWho, watches: map[*http.Request]context.CancelFunc{}}
}

// chain puts the front behind authentication and authorization, like all that is served.
func (f *front) chain(api http.Handler, c *genericapiserver.Config) http.Handler {
	f.api = api
	return genericapiserver.DefaultBuildHandlerChain(f, c)
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	info, _ := request.RequestInfoFrom(r.Context())
	switch {
	case r.URL.Path == "/apis" || r.URL.Path == "/apis/":
		aggregated.WrapAggregatedDiscoveryToHandler(http.HandlerFunc(f.groups), f.aggregated, nil).ServeHTTP(w, r)
	case r.URL.Path == selfReviewPath && r.Method == http.MethodPost:
		f.reviewSelf(w, r)
	case r.URL.Path == reviewPath && r.Method == http.MethodPost:
		f.review(w, r)
	case r.URL.Path == whoPath && r.Method == http.MethodPost && f.tellsWho:
		f.reviewWho(w, r)
	case r.URL.Path == "/end-watches" && r.Method == http.MethodPost:
		fmt.Fprintln(w, f.endWatches())
	case info != nil && info.Verb == "watch" && info.APIGroup != apiextensionsv1.GroupName:
		f.watch(w, r)
	default:
		f.api.ServeHTTP(w, r)
	}
}

func (f *front) watch(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	f.mu.Lock()
	f.watches[r] = cancel
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.watches, r)
		f.mu.Unlock()
	}()
	f.api.ServeHTTP(w, r.WithContext(ctx))
}

// endWatches ends every watch that runs now and says how many they were.
func (f *front) endWatches() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, cancel := range f.watches {
		cancel()
	}
	return len(f.watches)
}

// endWatchesFrom ends all watches once the context is done, new ones too: without that an API
// server that stops waits for them.
func (f *front) endWatchesFrom(ctx context.Context) {
	<-ctx.Done()
	for {
		f.endWatches()
		time.Sleep(20 * time.Millisecond)
	}
}

func (f *front) groups(w http.ResponseWriter, _ *http.Request) {
	definitions, err := f.definitions.List(labels.Everything())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	versions := map[string]map[string]bool{apiextensionsv1.GroupName: {"v1": true}}
	for _, definition := range definitions {
		if !apihelpers.IsCRDConditionTrue(definition, apiextensionsv1.Established) {
			continue
		}
		for _, v := range definition.Spec.Versions {
			if v.Served {
				addVersion(versions, definition.Spec.Group, v.Name)
			}
		}
	}
	for _, group := range builtinGroups {
		addVersion(versions, group.Group, group.Version)
	}
	writeJSON(w, http.StatusOK, groupList(versions))
}

func addVersion(versions map[string]map[string]bool, group, name string) {
	if versions[group] == nil {
		versions[group] = map[string]bool{}
	}
	versions[group][name] = true
}

func groupList(versions map[string]map[string]bool) *metav1.APIGroupList {
	list := &metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}, Groups: []metav1.APIGroup{}}
	for name, served := range versions {
		group := metav1.APIGroup{Name: name}
		for v := range served {
			group.Versions = append(group.Versions, metav1.GroupVersionForDiscovery{GroupVersion: name + "/" + v, Version: v})
		}
		sort.Slice(group.Versions, func(i, j int) bool {
			return version.CompareKubeAwareVersionStrings(group.Versions[i].Version, group.Versions[j].Version) > 0
		})
		group.PreferredVersion = group.Versions[0]
		list.Groups = append(list.Groups, group)
	}
	sort.Slice(list.Groups, func(i, j int) bool { return list.Groups[i].Name < list.Groups[j].Name })
	return list
}

// reviewSelf says what who asks may do; everybody may ask it.
func (f *front) reviewSelf(w http.ResponseWriter, r *http.Request) {
	var review authorizationv1.SelfSubjectAccessReview
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	review.TypeMeta = metav1.TypeMeta{Kind: "SelfSubjectAccessReview", APIVersion: "authorization.k8s.io/v1"}
	who, _ := request.UserFrom(r.Context())
	review.Status = f.decide(r.Context(), who, review.Spec.ResourceAttributes)
	writeJSON(w, http.StatusCreated, review)
}

// reviewWho says who asks; everybody may ask it.
func (f *front) reviewWho(w http.ResponseWriter, r *http.Request) {
	var review authenticationv1.SelfSubjectReview
	review.TypeMeta = metav1.TypeMeta{Kind: "SelfSubjectReview", APIVersion: "authentication.k8s.io/v1"}
	if who, known := request.UserFrom(r.Context()); known { // without --auth nobody is
		review.Status.UserInfo = authenticationv1.UserInfo{Username: who.GetName(), Groups: who.GetGroups()}
	}
	writeJSON(w, http.StatusCreated, review)
}

// review says what somebody else may do; to ask it takes the permission to create such reviews.
func (f *front) review(w http.ResponseWriter, r *http.Request) {
	var review authorizationv1.SubjectAccessReview
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	review.TypeMeta = metav1.TypeMeta{Kind: "SubjectAccessReview", APIVersion: "authorization.k8s.io/v1"}
	who := &user.DefaultInfo{Name: review.Spec.User, Groups: review.Spec.Groups}
	review.Status = f.decide(r.Context(), who, review.Spec.ResourceAttributes)
	writeJSON(w, http.StatusCreated, review)
}

func (f *front) decide(ctx context.Context, who user.Info, asked *authorizationv1.ResourceAttributes) authorizationv1.SubjectAccessReviewStatus {
	if asked == nil || f.authorizer == nil {
		return authorizationv1.SubjectAccessReviewStatus{Allowed: f.authorizer == nil}
	}
	decision, reason, _ := f.authorizer.Authorize(ctx, authorizer.AttributesRecord{
		User: who, ResourceRequest: true, Verb: asked.Verb, Namespace: asked.Namespace, APIGroup: asked.Group,
		APIVersion: asked.Version, Resource: asked.Resource, Subresource: asked.Subresource, Name: asked.Name,
	})
	return authorizationv1.SubjectAccessReviewStatus{Allowed: decision == authorizer.DecisionAllow, Reason: reason}
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}
