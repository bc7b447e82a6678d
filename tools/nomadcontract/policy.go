package main

import (
	"fmt"
	"os"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

type policyReport struct {
	Check string `json:"check"`
	Kind  string `json:"kind"`
	File  string `json:"file"`
}

// checkPolicies refuses names that Vault, Nomad's access control or Nomad's agent do not know. The
// lists are of what we use, after those programs' documentation: a new name is added here too.
func checkPolicies(kind string, paths []string) error {
	if len(paths) == 0 {
		return errUsage
	}
	var faults hcl.Diagnostics
	for _, path := range paths {
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		file, diags := hclsyntax.ParseConfig(source, path, hcl.InitialPos)
		if !diags.HasErrors() {
			diags = checkBody(kind, file.Body)
		}
		if diags.HasErrors() {
			faults = append(faults, diags...)
			continue
		}
		if err := report(policyReport{"policy", kind, path}); err != nil {
			return err
		}
	}
	if faults.HasErrors() {
		return faults
	}
	return nil
}

func checkBody(kind string, body hcl.Body) hcl.Diagnostics {
	switch kind {
	case "vault":
		return checkVault(body)
	case "nomad":
		return checkNomad(body)
	case "agent":
		return gohcl.DecodeBody(body, nil, &agentConfig{})
	default:
		return hcl.Diagnostics{&hcl.Diagnostic{
			Severity: hcl.DiagError, Summary: "Unknown kind", Detail: "vault, nomad or agent, not " + kind,
		}}
	}
}

type vaultPolicy struct {
	Paths []vaultPath `hcl:"path,block"`
}

type vaultPath struct {
	Path         string              `hcl:"path,label"`
	Capabilities hcl.Expression      `hcl:"capabilities"`
	Allowed      map[string][]string `hcl:"allowed_parameters,optional"`
	Denied       map[string][]string `hcl:"denied_parameters,optional"`
	Required     []string            `hcl:"required_parameters,optional"`
	MinWrapping  *string             `hcl:"min_wrapping_ttl,optional"`
	MaxWrapping  *string             `hcl:"max_wrapping_ttl,optional"`
}

var vaultCapabilities = []string{
	"create", "read", "update", "patch", "delete", "list", "sudo", "deny", "subscribe",
}

func checkVault(body hcl.Body) hcl.Diagnostics {
	var policy vaultPolicy
	diags := gohcl.DecodeBody(body, nil, &policy)
	for _, path := range policy.Paths {
		diags = append(diags, among(path.Capabilities, vaultCapabilities)...)
	}
	return diags
}

type nomadPolicy struct {
	Namespaces  []nomadRule `hcl:"namespace,block"`
	NodePools   []nomadRule `hcl:"node_pool,block"`
	HostVolumes []nomadRule `hcl:"host_volume,block"`
	Node        *nomadLevel `hcl:"node,block"`
	Agent       *nomadLevel `hcl:"agent,block"`
	Operator    *nomadLevel `hcl:"operator,block"`
}

type nomadRule struct {
	Name         string          `hcl:"name,label"`
	Policy       hcl.Expression  `hcl:"policy,optional"`
	Capabilities hcl.Expression  `hcl:"capabilities,optional"`
	Variables    *nomadVariables `hcl:"variables,block"`
}

type nomadVariables struct {
	Paths []struct {
		Path         string         `hcl:"path,label"`
		Capabilities hcl.Expression `hcl:"capabilities"`
	} `hcl:"path,block"`
}

type nomadLevel struct {
	Policy hcl.Expression `hcl:"policy"`
}

var (
	nomadLevels           = []string{"deny", "read", "list", "write", "scale"}
	namespaceCapabilities = []string{
		"deny", "list-jobs", "parse-job", "read-job", "submit-job", "dispatch-job", "read-logs",
		"read-fs", "alloc-exec", "alloc-node-exec", "alloc-lifecycle", "scale-job",
		"read-job-scaling", "csi-mount-volume", "csi-read-volume", "csi-list-volume",
		"host-volume-read", "host-volume-write",
	}
	volumeCapabilities   = []string{"deny", "mount-readonly", "mount-readwrite"}
	poolCapabilities     = []string{"deny", "read", "write", "delete"}
	variableCapabilities = []string{"deny", "list", "read", "write", "destroy"}
)

func checkNomad(body hcl.Body) hcl.Diagnostics {
	var policy nomadPolicy
	diags := gohcl.DecodeBody(body, nil, &policy)
	if diags.HasErrors() {
		return diags
	}
	for _, rules := range []struct {
		of    []nomadRule
		known []string
	}{
		{policy.Namespaces, namespaceCapabilities},
		{policy.HostVolumes, volumeCapabilities},
		{policy.NodePools, poolCapabilities},
	} {
		for _, rule := range rules.of {
			diags = append(diags, among(rule.Policy, nomadLevels)...)
			diags = append(diags, among(rule.Capabilities, rules.known)...)
			if rule.Variables == nil {
				continue
			}
			for _, path := range rule.Variables.Paths {
				diags = append(diags, among(path.Capabilities, variableCapabilities)...)
			}
		}
	}
	for _, level := range []*nomadLevel{policy.Node, policy.Agent, policy.Operator} {
		if level != nil {
			diags = append(diags, among(level.Policy, nomadLevels)...)
		}
	}
	return diags
}

// among refuses a text, or one of a list of texts, that is not known; an absent one is well.
func among(expr hcl.Expression, known []string) hcl.Diagnostics {
	value, diags := expr.Value(nil)
	if diags.HasErrors() || value.IsNull() {
		return diags
	}
	var words []string
	if value.Type().IsTupleType() {
		diags = gohcl.DecodeExpression(expr, nil, &words)
	} else {
		var word string
		diags = gohcl.DecodeExpression(expr, nil, &word)
		words = []string{word}
	}
	for _, word := range words {
		if !slices.Contains(known, word) {
			diags = append(diags, fault(expr.Range(), "Unknown word",
				fmt.Sprintf("%q is none of %v.", word, known)))
		}
	}
	return diags
}

// What our examples of Nomad's agent configuration use of it.
type agentConfig struct {
	DataDir  string        `hcl:"data_dir"`
	BindAddr string        `hcl:"bind_addr,optional"`
	Client   *clientConfig `hcl:"client,block"`
	Server   *serverConfig `hcl:"server,block"`
	Plugins  []struct {
		Name   string `hcl:"name,label"`
		Config struct {
			Enabled       bool     `hcl:"enabled,optional"`
			ImagePaths    []string `hcl:"image_paths,optional"`
			ArgsAllowlist []string `hcl:"args_allowlist,optional"`
		} `hcl:"config,block"`
	} `hcl:"plugin,block"`
	ACL *struct {
		Enabled bool `hcl:"enabled"`
	} `hcl:"acl,block"`
	Vault *struct {
		Enabled bool   `hcl:"enabled"`
		Address string `hcl:"address"`
		Backend string `hcl:"jwt_auth_backend_path"`
	} `hcl:"vault,block"`
}

type clientConfig struct {
	Enabled        bool     `hcl:"enabled"`
	Servers        []string `hcl:"servers,optional"`
	NodePool       string   `hcl:"node_pool,optional"`
	MaxKillTimeout string   `hcl:"max_kill_timeout,optional"`
	Meta           *struct {
		Rest map[string]string `hcl:",remain"`
	} `hcl:"meta,block"`
	HostVolumes []struct {
		Name     string `hcl:"name,label"`
		Path     string `hcl:"path"`
		ReadOnly bool   `hcl:"read_only,optional"`
	} `hcl:"host_volume,block"`
	Reserved *struct {
		CPU    int `hcl:"cpu,optional"`
		Memory int `hcl:"memory,optional"`
		Disk   int `hcl:"disk,optional"`
	} `hcl:"reserved,block"`
}

type serverConfig struct {
	Enabled         bool `hcl:"enabled"`
	BootstrapExpect int  `hcl:"bootstrap_expect,optional"`
	Join            *struct {
		RetryJoin []string `hcl:"retry_join"`
	} `hcl:"server_join,block"`
}
