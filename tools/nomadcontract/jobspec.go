package main

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/dynblock"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/nomad/api"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/gocty"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// What a job file may hold beside its variables. Nomad allows more (vault and task in a job); ours
// does without.
var fileSchema = &hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
	{Type: "variable", LabelNames: []string{"name"}},
	{Type: "locals"},
	{Type: "job", LabelNames: []string{"name"}},
}}

type jobspecReport struct {
	Check     string            `json:"check"`
	File      string            `json:"file"`
	Variables []variableSummary `json:"variables"`
	Job       *api.Job          `json:"job"`
}

func runJobspec(args []string) error {
	given := map[string]string{}
	for len(args) > 1 && args[0] == "-var" {
		name, value, ok := strings.Cut(args[1], "=")
		if !ok {
			return errUsage
		}
		given[name] = value
		args = args[2:]
	}
	if len(args) != 1 {
		return errUsage
	}
	job, variables, err := parseJobspec(args[0], given)
	if err != nil {
		return err
	}
	return report(jobspecReport{"jobspec", args[0], variables, job})
}

// parseJobspec reads a job file with the values of its variables, and fills in Nomad's defaults.
func parseJobspec(path string, given map[string]string) (*api.Job, []variableSummary, error) {
	source, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	file, diags := hclsyntax.ParseConfig(source, path, hcl.InitialPos)
	if diags.HasErrors() {
		return nil, nil, diags
	}
	content, diags := file.Body.Content(fileSchema)
	if diags.HasErrors() {
		return nil, nil, diags
	}
	values, summaries, diags := decodeVariables(content.Blocks.OfType("variable"), given)
	if diags.HasErrors() {
		return nil, nil, diags
	}
	ctx := &hcl.EvalContext{
		Functions: functions(),
		Variables: map[string]cty.Value{"var": cty.ObjectVal(values)},
	}
	if diags := decodeLocals(content.Blocks.OfType("locals"), ctx); diags.HasErrors() {
		return nil, nil, diags
	}
	jobs := content.Blocks.OfType("job")
	if len(jobs) != 1 {
		return nil, nil, fmt.Errorf("%s: a job file holds one job, this one %d", path, len(jobs))
	}
	job, diags := decodeJob(jobs[0], ctx)
	if diags.HasErrors() {
		return nil, nil, diags
	}
	job.Canonicalize()
	return job, summaries, nil
}

func decodeJob(block *hcl.Block, ctx *hcl.EvalContext) (*api.Job, hcl.Diagnostics) {
	job := &api.Job{}
	diags := newDecoder().DecodeBody(dynblock.Expand(block.Body, ctx), ctx, job)
	if diags.HasErrors() {
		return nil, diags
	}
	if job.ID == nil {
		job.ID = &block.Labels[0]
	}
	if job.Name == nil {
		job.Name = &block.Labels[0]
	}
	for _, group := range job.TaskGroups {
		splitPorts(group.Networks)
		for _, task := range group.Tasks {
			diags = append(diags, evaluateConfig(task, ctx)...)
		}
	}
	return job, diags
}

// splitPorts does as Nomad does: a port with a number is a reserved one.
func splitPorts(networks []*api.NetworkResource) {
	for _, network := range networks {
		var dynamic, reserved []api.Port
		for _, port := range network.DynamicPorts {
			if port.Value > 0 {
				reserved = append(reserved, port)
			} else {
				dynamic = append(dynamic, port)
			}
		}
		network.DynamicPorts, network.ReservedPorts = dynamic, reserved
	}
}

// evaluateConfig puts values where the decoder left a driver's attributes unevaluated, and refuses
// those that its driver does not know.
func evaluateConfig(task *api.Task, ctx *hcl.EvalContext) hcl.Diagnostics {
	var diags hcl.Diagnostics
	for name, left := range task.Config {
		attr, ok := left.(*hcl.Attribute)
		if !ok {
			continue
		}
		if !isKnownTo(task.Driver, name) {
			diags = append(diags, fault(attr.NameRange, "Unsupported argument",
				fmt.Sprintf("The driver %q has no %q in its config.", task.Driver, name)))
		}
		value, moreDiags := attr.Expr.Value(ctx)
		diags = append(diags, moreDiags...)
		if moreDiags.HasErrors() {
			continue
		}
		plain, err := ctyjson.SimpleJSONValue{Value: value}.MarshalJSON()
		if err != nil {
			diags = append(diags, fault(attr.Expr.Range(), "Unsuitable value", err.Error()))
			continue
		}
		task.Config[name] = rawJSON(plain)
	}
	return diags
}

// rawJSON is already JSON, and printed as it is.
type rawJSON []byte

func (text rawJSON) MarshalJSON() ([]byte, error) { return text, nil }

func newDecoder() *gohcl.Decoder {
	decoder := newInnerDecoder()
	decoder.RegisterBlockDecoder(reflect.TypeFor[api.Task](), decodeTask)
	return decoder
}

func newInnerDecoder() *gohcl.Decoder {
	decoder := &gohcl.Decoder{}
	decoder.RegisterExpressionDecoder(reflect.TypeFor[time.Duration](), decodeDuration)
	decoder.RegisterExpressionDecoder(reflect.TypeFor[*time.Duration](), decodeDuration)
	decoder.RegisterBlockDecoder(reflect.TypeFor[api.Constraint](), decodeConstraint)
	return decoder
}

func decodeDuration(expr hcl.Expression, ctx *hcl.EvalContext, into any) hcl.Diagnostics {
	value, diags := expr.Value(ctx)
	if diags.HasErrors() {
		return diags
	}
	if value.IsNull() || value.Type() != cty.String {
		return hcl.Diagnostics{fault(expr.Range(), "Unsuitable value",
			"A duration is a text such as \"30s\".")}
	}
	duration, err := time.ParseDuration(value.AsString())
	if err == nil {
		err = gocty.FromCtyValue(cty.NumberIntVal(int64(duration)), into)
	}
	if err != nil {
		return hcl.Diagnostics{fault(expr.Range(), "Unsuitable value", err.Error())}
	}
	return nil
}

// A task's env is a block, or an attribute where it is computed; its default identity has a field
// of its own in the API.
func decodeTask(body hcl.Body, ctx *hcl.EvalContext, into any) hcl.Diagnostics {
	task := into.(*api.Task)
	content, rest, _ := body.PartialContent(&hcl.BodySchema{
		Attributes: []hcl.AttributeSchema{{Name: "env"}},
	})
	env, isComputed := content.Attributes["env"]
	if !isComputed {
		rest = body
	}
	diags := newInnerDecoder().DecodeBody(rest, ctx, task)
	if isComputed {
		diags = append(diags, gohcl.DecodeExpression(env.Expr, ctx, &task.Env)...)
	}
	isDefault := func(identity *api.WorkloadIdentity) bool { return identity.Name == "default" }
	if at := slices.IndexFunc(task.Identities, isDefault); at >= 0 {
		task.Identity = task.Identities[at]
		task.Identities = slices.Delete(task.Identities, at, at+1)
	}
	return diags
}

// Nomad takes a constraint's operator as an attribute of its own too; ours says it in full.
func decodeConstraint(body hcl.Body, ctx *hcl.EvalContext, into any) hcl.Diagnostics {
	fields := struct {
		Attribute string `hcl:"attribute,optional"`
		Value     string `hcl:"value,optional"`
		Operator  string `hcl:"operator,optional"`
	}{Operator: "="}
	diags := gohcl.DecodeBody(body, ctx, &fields)
	constraint := into.(*api.Constraint)
	constraint.LTarget, constraint.RTarget = fields.Attribute, fields.Value
	constraint.Operand = fields.Operator
	return diags
}

func fault(where hcl.Range, summary, detail string) *hcl.Diagnostic {
	return &hcl.Diagnostic{
		Severity: hcl.DiagError, Summary: summary, Detail: detail, Subject: &where,
	}
}
