package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/nomad/api"
)

const (
	converseTimeout = 60 * time.Second
	pollPeriod      = 50 * time.Millisecond
	// TypeIDs of the right form, of no trial that there is.
	someTrial       = "trial_01h455vb4pex5vsknk084sn02q"
	someAllocation  = "allocation_01h455vb4pex5vsknk084sn02q"
	otherAllocation = "allocation_01h455vb4pex5vsknk084sn03q"
	wrongToken      = "11111111-2222-3333-4444-555555555555"
)

type stepReport struct {
	Check  string `json:"check"`
	Step   string `json:"step"`
	Detail string `json:"detail"`
}

type conversation struct {
	ctx     context.Context
	client  *api.Client
	address string
	token   string
	request *api.JobRegisterRequest
	jobID   string
	childID string
	allocID string
}

// converse asks a server, through the official client, for all that our scheduler needs of one. An
// empty token: a server without access control.
func converse(address, token, path string) error {
	request, err := readRequest(path)
	if err != nil {
		return err
	}
	client, err := api.NewClient(&api.Config{Address: address, SecretID: token})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), converseTimeout)
	defer cancel()
	c := &conversation{
		ctx: ctx, client: client, address: address, token: token,
		request: request, jobID: *request.Job.ID,
	}
	steps := []struct {
		name string
		do   func() (string, error)
	}{
		{"token", c.tokens},
		{"register", c.register},
		{"refusals", c.refusals},
		{"dispatch and events", c.dispatch},
		{"dispatch again", c.dispatchAgain},
		{"allocation", c.allocation},
		{"logs", c.logs},
		{"nodes and drain", c.nodes},
		{"deregister", c.deregister},
	}
	for _, step := range steps {
		detail, err := step.do()
		if err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		if err := report(stepReport{"converse", step.name, detail}); err != nil {
			return err
		}
	}
	return nil
}

func (c *conversation) query() *api.QueryOptions { return (&api.QueryOptions{}).WithContext(c.ctx) }
func (c *conversation) write() *api.WriteOptions { return (&api.WriteOptions{}).WithContext(c.ctx) }

func (c *conversation) tokens() (string, error) {
	if c.token == "" {
		return "no access control", nil
	}
	self, _, err := c.client.ACLTokens().Self(c.query())
	if err != nil {
		return "", err
	}
	for _, wrong := range []string{"", wrongToken} {
		client, err := api.NewClient(&api.Config{Address: c.address})
		if err != nil {
			return "", err
		}
		client.SetSecretID(wrong)
		_, _, err = client.Jobs().List(c.query())
		if err := wants(err, 403, ""); err != nil {
			return "", fmt.Errorf("with the token %q: %w", wrong, err)
		}
	}
	return self.Type, nil
}

func (c *conversation) register() (string, error) {
	answer, _, err := c.client.Jobs().RegisterOpts(c.request.Job, nil, c.write())
	if err != nil {
		return "", err
	}
	job, _, err := c.client.Jobs().Info(c.jobID, c.query())
	if err != nil {
		return "", err
	}
	if job.ID == nil || *job.ID != c.jobID || !job.IsParameterized() {
		return "", errors.New("the job that was registered is not the one that is there")
	}
	if job.JobModifyIndex == nil || *job.JobModifyIndex != answer.JobModifyIndex {
		return "", errors.New("the job's modify index is not that of its registration")
	}
	// Registers only a new job; this one is there.
	_, _, err = c.client.Jobs().RegisterOpts(
		c.request.Job, &api.RegisterOptions{EnforceIndex: true}, c.write())
	return fmt.Sprintf("index %d", answer.JobModifyIndex), wants(err, 0, "Enforcing job modify index")
}

func (c *conversation) refusals() (string, error) {
	_, _, err := c.client.Jobs().Dispatch(c.jobID, nil, []byte("x"), "", c.write())
	if err := wants(err, 500, "required meta keys"); err != nil {
		return "", err
	}
	meta := c.meta()
	meta["no_such_key"] = "x"
	_, _, err = c.client.Jobs().Dispatch(c.jobID, meta, []byte("x"), "", c.write())
	if err := wants(err, 500, "unpermitted metadata keys"); err != nil {
		return "", err
	}
	_, _, err = c.client.Jobs().Dispatch(c.jobID, c.meta(), nil, "", c.write())
	if err := wants(err, 500, "Payload is not provided"); err != nil {
		return "", err
	}
	large := []byte(strings.Repeat("x", 16*1024+1))
	_, _, err = c.client.Jobs().Dispatch(c.jobID, c.meta(), large, "", c.write())
	if err := wants(err, 500, "Payload exceeds maximum size"); err != nil {
		return "", err
	}
	_, _, err = c.client.Jobs().Info("no-such-job", c.query())
	if err := wants(err, 404, ""); err != nil {
		return "", err
	}
	return "meta, payload, size and an unknown job", nil
}

func (c *conversation) meta() map[string]string { return c.metaFor(someAllocation) }

func (c *conversation) metaFor(allocation string) map[string]string {
	meta := map[string]string{"trial_id": someTrial, "allocation_id": allocation}
	for _, key := range c.request.Job.ParameterizedJob.MetaOptional {
		if key == "api_url" {
			meta[key] = "http://127.0.0.1:1"
		}
	}
	return meta
}

// dispatch hears of the child's allocation, and of its end, from the event stream.
func (c *conversation) dispatch() (string, error) {
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	topics := map[api.Topic][]string{api.TopicAllocation: {string(api.TopicAll)}}
	events, err := c.client.EventStream().Stream(ctx, topics, 0, c.query())
	if err != nil {
		return "", err
	}
	answer, err := c.dispatchOnce()
	if err != nil {
		return "", err
	}
	c.childID = answer.DispatchedJobID
	if !strings.HasPrefix(c.childID, c.jobID+"/dispatch-") || answer.EvalID == "" {
		return "", fmt.Errorf("the child is %q and its evaluation %q", c.childID, answer.EvalID)
	}
	for {
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("no end of %s was told in time", c.childID)
		case batch, isOpen := <-events:
			if !isOpen {
				return "", errors.New("the event stream ended")
			}
			if batch.Err != nil {
				return "", batch.Err
			}
			for _, event := range batch.Events {
				alloc, err := event.Allocation()
				if err != nil {
					return "", err
				}
				if alloc == nil || alloc.JobID != c.childID {
					continue
				}
				c.allocID = alloc.ID
				if alloc.ClientTerminalStatus() {
					return alloc.ClientStatus, nil
				}
			}
		}
	}
}

func (c *conversation) dispatchOnce() (*api.JobDispatchResponse, error) {
	return c.dispatchFor(someAllocation, "an enrolment token")
}

func (c *conversation) dispatchFor(allocation, token string) (*api.JobDispatchResponse, error) {
	opts := &api.DispatchOptions{
		JobID: c.jobID, Meta: c.metaFor(allocation), Payload: []byte(token),
		IdPrefixTemplate: allocation,
	}
	write := c.write()
	write.IdempotencyToken = allocation
	answer, _, err := c.client.Jobs().DispatchOpts(opts, write)
	return answer, err
}

func (c *conversation) dispatchAgain() (string, error) {
	answer, err := c.dispatchOnce()
	if err != nil {
		return "", err
	}
	if answer.DispatchedJobID != c.childID {
		return "", fmt.Errorf("one idempotency token made %s and %s", c.childID, answer.DispatchedJobID)
	}
	return answer.DispatchedJobID, nil
}

func (c *conversation) allocation() (string, error) {
	stubs, _, err := c.client.Jobs().Allocations(c.childID, true, c.query())
	if err != nil {
		return "", err
	}
	if len(stubs) != 1 || stubs[0].ID != c.allocID {
		return "", fmt.Errorf("the child has %d allocations", len(stubs))
	}
	alloc, _, err := c.client.Allocations().Info(c.allocID, c.query())
	if err != nil {
		return "", err
	}
	state := alloc.TaskStates[c.taskName()]
	if state == nil || state.State != "dead" {
		return "", fmt.Errorf("the ended allocation's task is %v", state)
	}
	return fmt.Sprintf("%s, failed: %t", alloc.ClientStatus, state.Failed), nil
}

func (c *conversation) taskName() string { return c.request.Job.TaskGroups[0].Tasks[0].Name }

// logs follows a child of its own while it runs, and stops it.
func (c *conversation) logs() (string, error) {
	answer, err := c.dispatchFor(otherAllocation, "wait")
	if err != nil {
		return "", err
	}
	allocID, err := c.started(answer.DispatchedJobID)
	if err != nil {
		return "", err
	}
	alloc, _, err := c.client.Allocations().Info(allocID, c.query())
	if err != nil {
		return "", err
	}
	stop := make(chan struct{})
	defer close(stop)
	frames, faults := c.client.AllocFS().Logs(
		alloc, true, c.taskName(), "stderr", "start", 0, stop, c.query())
	select {
	case err := <-faults:
		return "", err
	case <-c.ctx.Done():
		return "", errors.New("nothing was told in time")
	case frame, isOpen := <-frames:
		if !isOpen || len(frame.Data) == 0 {
			return "", errors.New("the log ended before it began")
		}
	}
	_, _, err = c.client.Jobs().Deregister(answer.DispatchedJobID, false, c.write())
	return "standard error, while it ran", err
}

// started waits for a child's allocation to run, or to have run.
func (c *conversation) started(childID string) (string, error) {
	for {
		stubs, _, err := c.client.Jobs().Allocations(childID, true, c.query())
		if err != nil {
			return "", err
		}
		for _, stub := range stubs {
			if stub.ClientStatus != api.AllocClientStatusPending {
				return stub.ID, nil
			}
		}
		select {
		case <-c.ctx.Done():
			return "", fmt.Errorf("%s has not started in time", childID)
		case <-time.After(pollPeriod):
		}
	}
}

func (c *conversation) nodes() (string, error) {
	stubs, _, err := c.client.Nodes().List(c.query())
	if err != nil {
		return "", err
	}
	if len(stubs) == 0 {
		return "", errors.New("there is no node")
	}
	id := stubs[0].ID
	spec := &api.DrainSpec{Deadline: time.Minute, IgnoreSystemJobs: true}
	if _, err := c.client.Nodes().UpdateDrain(id, spec, false, c.write()); err != nil {
		return "", err
	}
	node, _, err := c.client.Nodes().Info(id, c.query())
	if err != nil {
		return "", err
	}
	if node.SchedulingEligibility != api.NodeSchedulingIneligible {
		return "", fmt.Errorf("the drained node is %s", node.SchedulingEligibility)
	}
	if _, err := c.client.Nodes().UpdateDrain(id, nil, true, c.write()); err != nil {
		return "", err
	}
	node, _, err = c.client.Nodes().Info(id, c.query())
	if err != nil {
		return "", err
	}
	if node.Drain || node.SchedulingEligibility != api.NodeSchedulingEligible {
		return "", fmt.Errorf("after its drain the node is %s", node.SchedulingEligibility)
	}
	return fmt.Sprintf("%d nodes, the first %s", len(stubs), node.Status), nil
}

func (c *conversation) deregister() (string, error) {
	for _, id := range []string{c.childID, c.jobID} {
		if _, _, err := c.client.Jobs().Deregister(id, true, c.write()); err != nil {
			return "", err
		}
	}
	_, _, err := c.client.Jobs().Info(c.jobID, c.query())
	return "purged", wants(err, 404, "")
}

// wants checks a refusal: its status, where it is not 0, and its words.
func wants(err error, status int, words string) error {
	if err == nil {
		return errors.New("was not refused")
	}
	var unexpected api.UnexpectedResponseError
	if !errors.As(err, &unexpected) {
		return err
	}
	if status != 0 && unexpected.StatusCode() != status {
		return fmt.Errorf("was refused with %d: %w", unexpected.StatusCode(), err)
	}
	if !strings.Contains(unexpected.Body(), words) {
		return fmt.Errorf("was refused in other words: %w", err)
	}
	return nil
}
