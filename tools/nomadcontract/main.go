// Nomadcontract checks our Nomad jobs and our stub of Nomad against HashiCorp's own code: the types
// and the client of github.com/hashicorp/nomad/api, and the HCL decoder that Nomad itself uses.
//
//	nomadcontract jobspec [-var name=value]... file.nomad.hcl   the job, as Nomad would read it
//	nomadcontract policy vault|nomad|agent file.hcl...          block and attribute names
//	nomadcontract strict file.json|-                            a register request, strictly
//	nomadcontract converse address token job.json               the official client with a server
//
// What it checked is printed as JSON, one object a line; faults go to standard error, each with
// file and line where it has one. Exit status: 0 all is well, 1 a fault, 2 usage.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/hashicorp/hcl/v2"
)

var errUsage = errors.New(`usage: nomadcontract jobspec [-var name=value]... FILE
       nomadcontract policy vault|nomad|agent FILE...
       nomadcontract strict FILE|-
       nomadcontract converse ADDRESS TOKEN FILE`)

func main() {
	err := run(os.Args[1:])
	if err == nil {
		return
	}
	tell(err)
	if errors.Is(err, errUsage) {
		os.Exit(2)
	}
	os.Exit(1)
}

func run(args []string) error {
	if len(args) < 2 {
		return errUsage
	}
	switch args[0] {
	case "jobspec":
		return runJobspec(args[1:])
	case "policy":
		return checkPolicies(args[1], args[2:])
	case "strict":
		return runStrict(args[1])
	case "converse":
		if len(args) != 4 {
			return errUsage
		}
		return converse(args[1], args[2], args[3])
	default:
		return errUsage
	}
}

// tell prints an error, and each of HCL's faults in a line of its own.
func tell(err error) {
	var diags hcl.Diagnostics
	if !errors.As(err, &diags) {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	for _, diag := range diags {
		place := diag.Subject
		if place == nil {
			place = diag.Context
		}
		where := ""
		if place != nil {
			where = fmt.Sprintf("%s:%d: ", place.Filename, place.Start.Line)
		}
		fmt.Fprintf(os.Stderr, "%s%s; %s\n", where, diag.Summary, diag.Detail)
	}
}

// report prints one line of what was checked.
func report(checked any) error {
	return json.NewEncoder(os.Stdout).Encode(checked)
}
