package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/hashicorp/nomad/api"
)

type strictReport struct {
	Check string   `json:"check"`
	File  string   `json:"file"`
	Job   *api.Job `json:"job"`
}

func runStrict(path string) error {
	request, err := readRequest(path)
	if err != nil {
		return err
	}
	request.Job.Canonicalize()
	return report(strictReport{"strict", path, request.Job})
}

// readRequest reads the body of a job's registration; a field that Nomad does not know is an error.
func readRequest(path string) (*api.JobRegisterRequest, error) {
	text, err := readAll(path)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	request := &api.JobRegisterRequest{}
	if err := decoder.Decode(request); err != nil {
		return nil, fmt.Errorf("%s:%d: %w", path, lineOf(err, text, decoder.InputOffset()), err)
	}
	if decoder.More() {
		return nil, fmt.Errorf("%s: more than one JSON value", path)
	}
	if request.Job == nil || request.Job.ID == nil || *request.Job.ID == "" {
		return nil, fmt.Errorf("%s: no Job with an ID", path)
	}
	return request, nil
}

// lineOf is the line of the field that an error names, else of how far the decoder had come.
func lineOf(err error, text []byte, offset int64) int {
	at := int(offset)
	if _, name, ok := strings.Cut(err.Error(), "unknown field "); ok {
		if found := bytes.Index(text, []byte(name)); found >= 0 {
			at = found
		}
	}
	return 1 + bytes.Count(text[:at], []byte("\n"))
}

func readAll(path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(os.Stdin)
	}
	return os.ReadFile(path)
}
