package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// variableSummary is what a reader of the report may want to compare with documentation.
type variableSummary struct {
	Name       string `json:"name"`
	Type       string `json:"type"`
	IsRequired bool   `json:"is_required"`
}

// Every variable of ours has a type, a description and a validation: stricter than Nomad's.
type variableBlock struct {
	Type        hcl.Expression    `hcl:"type"`
	Description string            `hcl:"description"`
	Default     hcl.Expression    `hcl:"default,optional"`
	Validations []validationBlock `hcl:"validation,block"`
}

type validationBlock struct {
	Condition    hcl.Expression `hcl:"condition"`
	ErrorMessage string         `hcl:"error_message"`
}

// decodeVariables gives each variable its value: the one given, else its default.
func decodeVariables(
	blocks hcl.Blocks, given map[string]string,
) (map[string]cty.Value, []variableSummary, hcl.Diagnostics) {
	values := map[string]cty.Value{}
	var summaries []variableSummary
	var diags hcl.Diagnostics
	for _, block := range blocks {
		name := block.Labels[0]
		if _, known := values[name]; known {
			diags = append(diags, fault(block.DefRange, "Duplicate variable", name))
			continue
		}
		value, summary, moreDiags := decodeVariable(block, given)
		diags = append(diags, moreDiags...)
		values[name] = value
		summaries = append(summaries, summary)
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if _, known := values[name]; !known {
			diags = append(diags, &hcl.Diagnostic{
				Severity: hcl.DiagError, Summary: "Undefined -var variable", Detail: name,
			})
		}
	}
	return values, summaries, diags
}

func decodeVariable(
	block *hcl.Block, given map[string]string,
) (cty.Value, variableSummary, hcl.Diagnostics) {
	name := block.Labels[0]
	var fields variableBlock
	diags := gohcl.DecodeBody(block.Body, nil, &fields)
	if diags.HasErrors() {
		return cty.DynamicVal, variableSummary{}, diags
	}
	wanted, diags := typeexpr.Type(fields.Type)
	if diags.HasErrors() {
		return cty.DynamicVal, variableSummary{}, diags
	}
	if len(fields.Validations) == 0 {
		diags = append(diags, fault(block.DefRange, "Missing validation", name))
	}
	fallback, moreDiags := fields.Default.Value(nil)
	diags = append(diags, moreDiags...)
	isRequired := fallback.IsNull()
	summary := variableSummary{name, typeexpr.TypeString(wanted), isRequired}
	text, isGiven := given[name]
	if !isGiven && isRequired {
		diags = append(diags, fault(block.DefRange, "Unset variable",
			fmt.Sprintf("%q must be set: it has no default.", name)))
		return cty.UnknownVal(wanted), summary, diags
	}
	value := fallback
	if isGiven {
		value, moreDiags = valueOf(text, wanted, name)
		diags = append(diags, moreDiags...)
	}
	converted, err := convert.Convert(value, wanted)
	if err != nil {
		where := block.DefRange
		if !isGiven {
			where = fields.Default.Range()
		}
		return cty.DynamicVal, summary, append(diags, fault(where, "Invalid value for variable",
			fmt.Sprintf("%q: %s.", name, err)))
	}
	return converted, summary, append(diags, validate(name, converted, fields.Validations)...)
}

// valueOf reads a value as Nomad's -var does: texts and numbers as they are, the rest as HCL.
func valueOf(text string, wanted cty.Type, name string) (cty.Value, hcl.Diagnostics) {
	if wanted == cty.String || wanted == cty.Number {
		return cty.StringVal(text), nil
	}
	expr, diags := hclsyntax.ParseExpression([]byte(text), "-var "+name, hcl.InitialPos)
	if diags.HasErrors() {
		return cty.DynamicVal, diags
	}
	return expr.Value(nil)
}

func validate(name string, value cty.Value, validations []validationBlock) hcl.Diagnostics {
	own := cty.ObjectVal(map[string]cty.Value{name: value})
	ctx := &hcl.EvalContext{
		Functions: functions(), Variables: map[string]cty.Value{"var": own},
	}
	var diags hcl.Diagnostics
	for _, validation := range validations {
		result, moreDiags := validation.Condition.Value(ctx)
		diags = append(diags, moreDiags...)
		if moreDiags.HasErrors() {
			continue
		}
		holds, err := convert.Convert(result, cty.Bool)
		if err != nil || holds.IsNull() {
			diags = append(diags, fault(validation.Condition.Range(), "Invalid condition",
				"A condition is true or false."))
		} else if holds.False() {
			diags = append(diags, fault(validation.Condition.Range(), "Invalid value for variable",
				validation.ErrorMessage))
		}
	}
	return diags
}

// decodeLocals evaluates locals in whatever order they need each other, into the context.
func decodeLocals(blocks hcl.Blocks, ctx *hcl.EvalContext) hcl.Diagnostics {
	waiting := map[string]*hcl.Attribute{}
	for _, block := range blocks {
		attrs, diags := block.Body.JustAttributes()
		if diags.HasErrors() {
			return diags
		}
		maps.Copy(waiting, attrs)
	}
	locals := map[string]cty.Value{}
	ctx.Variables["local"] = cty.ObjectVal(locals)
	for len(waiting) > 0 {
		var faults hcl.Diagnostics
		before := len(waiting)
		for _, name := range slices.Sorted(maps.Keys(waiting)) {
			value, diags := waiting[name].Expr.Value(ctx)
			if diags.HasErrors() {
				faults = append(faults, diags...)
				continue
			}
			locals[name] = value
			delete(waiting, name)
			ctx.Variables["local"] = cty.ObjectVal(maps.Clone(locals))
		}
		if len(waiting) == before {
			return faults
		}
	}
	return nil
}

// functions are those of Nomad's that our files use; another is an error until it is added.
func functions() map[string]function.Function {
	return map[string]function.Function{
		"can":           tryfunc.CanFunc,
		"concat":        stdlib.ConcatFunc,
		"contains":      stdlib.ContainsFunc,
		"floor":         stdlib.FloorFunc,
		"format":        stdlib.FormatFunc,
		"formatlist":    stdlib.FormatListFunc,
		"flatten":       stdlib.FlattenFunc,
		"join":          stdlib.JoinFunc,
		"jsonencode":    stdlib.JSONEncodeFunc,
		"keys":          stdlib.KeysFunc,
		"length":        stdlib.LengthFunc,
		"merge":         stdlib.MergeFunc,
		"parseint":      stdlib.ParseIntFunc,
		"regex_replace": stdlib.RegexReplaceFunc,
		"split":         stdlib.SplitFunc,
		"substr":        stdlib.SubstrFunc,
	}
}

// What each driver's config may hold: the attribute names of Nomad's own driver schemas.
var driverConfig = map[string]string{
	"raw_exec": "command args work_dir oom_score_adj denied_envvars " +
		"cgroup_v2_override cgroup_v1_override",
	"exec": "command args work_dir pid_mode ipc_mode cap_add cap_drop",
	"docker": "image command args entrypoint init network_mode ports pids_limit cap_add cap_drop " +
		"security_opt readonly_rootfs volumes mounts shm_size ipc_mode userns_mode work_dir " +
		"force_pull auth_soft_fail labels runtime ulimit cpu_hard_limit memory_hard_limit",
	"qemu": "image_path emulator machine_type drive_interface accelerator graceful_shutdown " +
		"guest_agent args port_map",
}

func isKnownTo(driver, name string) bool {
	return slices.Contains(strings.Fields(driverConfig[driver]), name)
}
