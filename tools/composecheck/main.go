// Composecheck reads Compose files as `docker compose config` does, with the library that it uses,
// and prints the project as JSON: merged, interpolated, checked against the specification.
//
//	composecheck [-profile NAME]... [-env NAME=VALUE]... FILE [OVERRIDE]...
//
// Without profiles it prints what starts by itself; -profile '*' prints all. Nothing is read of
// the machine's own environment, and no image is looked for.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
)

type texts []string

func (t *texts) String() string { return strings.Join(*t, ",") }

func (t *texts) Set(value string) error {
	*t = append(*t, value)
	return nil
}

func main() {
	var profiles, environment texts
	flag.Var(&profiles, "profile", "a profile to include; '*' is all")
	flag.Var(&environment, "env", "a variable, NAME=VALUE")
	flag.Parse()
	if err := run(flag.Args(), profiles, environment); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(files, profiles, environment []string) error {
	if len(files) == 0 {
		return fmt.Errorf("usage: composecheck [-profile NAME]... [-env NAME=VALUE]... FILE [OVERRIDE]...")
	}
	options, err := cli.NewProjectOptions(files,
		cli.WithWorkingDirectory(filepath.Dir(files[0])),
		cli.WithEnv(environment),
		cli.WithProfiles(profiles),
		cli.WithConsistency(true),
		cli.WithNormalization(true),
		cli.WithInterpolation(true),
	)
	if err != nil {
		return err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return err
	}
	text, err := project.MarshalJSON()
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(append(text, '\n'))
	return err
}
