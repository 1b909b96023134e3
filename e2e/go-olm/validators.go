package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/operator-framework/api/pkg/manifests"
	"github.com/operator-framework/api/pkg/validation"
	"github.com/operator-framework/api/pkg/validation/errors"
	interfaces "github.com/operator-framework/api/pkg/validation/interfaces"
)

// The default validators, then the suite "operatorframework" and the rest of what `operator-sdk bundle validate` can be
// asked for. Left out: those for package manifests and OperatorGroups, which no bundle has, and "operatorhub", which
// upstream has replaced by the three after it.
var validators = []struct {
	name string
	interfaces.Validator
}{
	{"csv", validation.ClusterServiceVersionValidator},
	{"crd", validation.CustomResourceDefinitionValidator},
	{"bundle", validation.BundleValidator},
	{"operatorhub/v2", validation.OperatorHubV2Validator},
	{"standardcapabilities", validation.StandardCapabilitiesValidator},
	{"standardcategories", validation.StandardCategoriesValidator},
	{"good-practices", validation.GoodPracticesValidator},
	{"alpha-deprecated-apis", validation.AlphaDeprecatedAPIsValidator},
	{"object", validation.ObjectValidator},
	{"community", validation.CommunityOperatorValidator},
	{"multiarch", validation.MultipleArchitecturesValidator},
}

// The program that the validator "multiarch" asks about images, by pulling them. Ours are pulled from nowhere while the
// bundle is checked: this program answers in its place, with the platform that they are built for.
const containerTool = "docker"

// The platform, for the answers.
const platformVariable = "OLM_CHECK_PLATFORM"

func validate(bundle *manifests.Bundle, platform string) (findings []finding, err error) {
	folder, err := standInForContainerTool(platform)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)

	objects := bundle.ObjectsToValidate()
	for _, validator := range validators {
		for _, result := range validator.Validate(objects...) {
			for _, problem := range result.Errors {
				findings = append(findings, finding{validator.name, true, text(problem)})
			}
			for _, problem := range result.Warnings {
				findings = append(findings, finding{validator.name, false, text(problem)})
			}
		}
	}
	// Validators walk maps.
	slices.SortStableFunc(findings, func(a, b finding) int {
		return strings.Compare(a.check+a.text, b.check+b.text)
	})
	return findings, nil
}

// text is what a validator says, without the level, which stands before it already.
func text(problem errors.Error) string {
	return strings.TrimPrefix(problem.Error(), string(problem.Level)+": ")
}

func standInForContainerTool(platform string) (folder string, err error) {
	program, err := os.Executable()
	if err != nil {
		return "", err
	}
	if folder, err = os.MkdirTemp("", "olm-check-"); err != nil {
		return "", err
	}
	if err := os.Symlink(program, filepath.Join(folder, containerTool)); err != nil {
		return "", err
	}
	if err := os.Setenv("PATH", folder); err != nil {
		return "", err
	}
	return folder, os.Setenv(platformVariable, platform)
}

// answerAsContainerTool takes `pull IMAGE`, and answers `manifest inspect IMAGE`.
func answerAsContainerTool(arguments []string) {
	if len(arguments) == 0 || arguments[0] != "manifest" {
		return
	}
	os, architecture, _ := strings.Cut(os.Getenv(platformVariable), "/")
	platform := map[string]string{"os": os, "architecture": architecture}
	answer, _ := json.Marshal(map[string]any{"manifests": []any{map[string]any{"platform": platform}}})
	fmt.Println(string(answer))
}
