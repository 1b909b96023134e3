// olm-check runs OLM's own checks over a bundle and a file-based catalog:
//
//	olm-check -platform linux/amd64 -accepted accepted.yaml BUNDLE CATALOG
//
// In come the two folders; out come all findings, one a line, and an exit code that is not zero when there is an error,
// a warning that accepted.yaml does not list, or a line in accepted.yaml that nothing warns of any more.
//
//   - validators.go: the validators of github.com/operator-framework/api
//   - schema.go:     what an API server would say of the CSV and of the definitions
//   - catalog.go:    what opm would say of the catalog, and whether it says what the bundle says
//   - accepted.go:   the warnings that we know
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/operator-framework/api/pkg/manifests"
)

// finding is one thing that a check said.
type finding struct {
	check string
	fatal bool
	text  string
}

func (f finding) String() string {
	level := "warning"
	if f.fatal {
		level = "error"
	}
	return fmt.Sprintf("%-7s %s: %s", level, f.check, f.text)
}

func main() {
	if filepath.Base(os.Args[0]) == containerTool {
		answerAsContainerTool(os.Args[1:])
		return
	}
	platform := flag.String("platform", "", "what the images are built for, os/architecture")
	accepted := flag.String("accepted", "", "the file of accepted warnings")
	flag.Parse()
	if flag.NArg() != 2 || *platform == "" || *accepted == "" {
		fmt.Fprintln(os.Stderr, "usage: olm-check -platform OS/ARCHITECTURE -accepted FILE BUNDLE CATALOG")
		os.Exit(2)
	}
	if err := run(flag.Arg(0), flag.Arg(1), *accepted, *platform); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(bundleFolder, catalogFolder, acceptedFile, platform string) error {
	accepted, err := readAccepted(acceptedFile)
	if err != nil {
		return err
	}
	bundle, err := manifests.GetBundleFromDir(bundleFolder)
	if err != nil {
		return fmt.Errorf("%s: %w", bundleFolder, err)
	}
	findings, err := validate(bundle, platform)
	if err != nil {
		return err
	}
	findings = append(findings, checkSchemas(bundle)...)
	findings = append(findings, checkCatalog(catalogFolder, bundle)...)

	bad := 0
	for _, finding := range findings {
		reason := accepted.reasonFor(finding)
		if reason != "" {
			fmt.Printf("%v\n        accepted: %s\n", finding, reason)
			continue
		}
		bad++
		fmt.Println(finding)
	}
	for _, stale := range accepted.unused() {
		bad++
		fmt.Printf("error   %s: nothing warns of this any more, so take it out: %s: %s\n", acceptedFile, stale.Check, stale.Warning)
	}
	fmt.Printf("%s: %d objects, %d bytes, %d compressed; %d findings, %d to mend\n",
		bundle.Name, len(bundle.Objects), bundle.Size, bundle.CompressedSize, len(findings), bad)
	if bad > 0 {
		return errors.New("the bundle is not in order")
	}
	return nil
}
