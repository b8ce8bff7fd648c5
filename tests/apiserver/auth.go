// Who may do what: static tokens and Roles from a file that is read again when it changes.
//
//	users:
//	- name: mcsdns
//	  token: secret
//	  roles:            # objects as kubectl takes them: a Role counts in its namespace, a ClusterRole in all
//	  - kind: ClusterRole
//	    rules:
//	    - {apiGroups: [multicluster.x-k8s.io], resources: [serviceimports], verbs: [list, watch]}
package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"sigs.k8s.io/yaml"
)

type account struct {
	Name  string        `json:"name"`
	Token string        `json:"token"`
	Roles []rbacv1.Role `json:"roles"` // of ClusterRoles too: their fields are the same
}

// permissions is the authenticator and the authorizer.
type permissions struct {
	path string

	mu       sync.Mutex
	read     time.Time
	accounts []account
}

// current reads the file where it has changed; the accounts are never changed in place.
func (p *permissions) current() ([]account, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	found, err := os.Stat(p.path)
	if err != nil {
		return nil, err
	}
	if found.ModTime().Equal(p.read) {
		return p.accounts, nil
	}
	text, err := os.ReadFile(p.path)
	if err != nil {
		return nil, err
	}
	var file struct {
		Users []account `json:"users"`
	}
	if err := yaml.UnmarshalStrict(text, &file); err != nil {
		return nil, err
	}
	p.accounts, p.read = file.Users, found.ModTime()
	return p.accounts, nil
}

// AuthenticateRequest takes no token for anonymous, as API servers do, and refuses unknown ones.
func (p *permissions) AuthenticateRequest(r *http.Request) (*authenticator.Response, bool, error) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return &authenticator.Response{User: &user.DefaultInfo{Name: user.Anonymous, Groups: []string{user.AllUnauthenticated}}}, true, nil
	}
	accounts, err := p.current()
	if err != nil {
		return nil, false, err
	}
	for _, a := range accounts {
		if a.Token == token {
			return &authenticator.Response{User: &user.DefaultInfo{Name: a.Name, Groups: []string{user.AllAuthenticated}}}, true, nil
		}
	}
	return nil, false, errors.New("invalid bearer token")
}

// Authorize allows the server itself, probes, discovery to who has a token, and what a role allows.
func (p *permissions) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	groups := a.GetUser().GetGroups()
	known := slices.Contains(groups, user.AllAuthenticated)
	if slices.Contains(groups, user.SystemPrivilegedGroup) || isPublic(a) || known && isDiscovery(a) {
		return authorizer.DecisionAllow, "", nil
	}
	accounts, err := p.current()
	if err != nil {
		return authorizer.DecisionNoOpinion, "", err
	}
	for _, account := range accounts {
		if account.Name == a.GetUser().GetName() && slices.ContainsFunc(account.Roles, func(r rbacv1.Role) bool { return allows(r, a) }) {
			return authorizer.DecisionAllow, "", nil
		}
	}
	return authorizer.DecisionNoOpinion, "", nil
}

func isPublic(a authorizer.Attributes) bool {
	path := a.GetPath()
	return !a.IsResourceRequest() && (path == "/version" || path == "/end-watches" ||
		strings.HasPrefix(path, "/healthz") || strings.HasPrefix(path, "/livez") || strings.HasPrefix(path, "/readyz"))
}

func isDiscovery(a authorizer.Attributes) bool {
	if a.IsResourceRequest() {
		return a.GetResource() == "selfsubjectaccessreviews" || a.GetResource() == "selfsubjectreviews"
	}
	return a.IsReadOnly() && (strings.HasPrefix(a.GetPath(), "/api") || strings.HasPrefix(a.GetPath(), "/openapi"))
}

func allows(role rbacv1.Role, a authorizer.Attributes) bool {
	if role.Kind == "Role" && role.Namespace != a.GetNamespace() {
		return false
	}
	return slices.ContainsFunc(role.Rules, func(rule rbacv1.PolicyRule) bool {
		if !a.IsResourceRequest() {
			return has(rule.Verbs, a.GetVerb()) && has(rule.NonResourceURLs, a.GetPath())
		}
		resource := a.GetResource()
		if a.GetSubresource() != "" {
			resource += "/" + a.GetSubresource()
		}
		return has(rule.Verbs, a.GetVerb()) && has(rule.APIGroups, a.GetAPIGroup()) && has(rule.Resources, resource) &&
			(len(rule.ResourceNames) == 0 || slices.Contains(rule.ResourceNames, a.GetName()))
	})
}

func has(allowed []string, asked string) bool {
	return slices.Contains(allowed, "*") || slices.Contains(allowed, asked)
}
